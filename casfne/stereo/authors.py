"""What Photoface's owners made of a session with their own tools, `sn.mat` and `albedo.mat`, and how it compares."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from casfne.errors import InputError
from casfne.normals import angle_deg, normalise, recognise_frame

Floats = NDArray[np.float32]

# how the owner's x and y could have been meant: a name, and which of their axes, with which sign, is our x and our y
_AXES = {
    f"{'-' if sx < 0 else ''}{'xy'[first]}, {'-' if sy < 0 else ''}{'xy'[1 - first]}": (first, sx, 1 - first, sy)
    for first in (0, 1)
    for sx in (1, -1)
    for sy in (1, -1)
}


def read_normals(path: Path | str) -> Floats:
    """Unit normals [H, W, 3], frame opengl, from the surface gradients px, py of a sn.mat; 0 where they are not finite.

    They are taken for the slopes of the height towards the camera, px along a row to the right and py along a column
    downwards, as MATLAB counts: the normal is (-px, py, 1), its y upwards. `compare` measures whether that is so.
    InputError naming the file: no MATLAB file of version 4 to 7, no px and py of one size.
    """
    px, py = _variables(Path(path), "px", "py")
    if px.shape != py.shape:
        raise InputError(f"{path}: px is {px.shape}, py is {py.shape}")
    known = np.isfinite(px) & np.isfinite(py)
    normals = np.stack([-px, py, np.ones_like(px)], -1)
    normals[~known] = 0
    return normalise(normals)


def read_albedo(path: Path | str) -> Floats:
    """The albedo [H, W], in the owner's units, of an albedo.mat; 0 where it is not finite. InputError as above."""
    (albedo,) = _variables(Path(path), "albedo")
    return np.nan_to_num(albedo, nan=0, posinf=0, neginf=0)


def compare(theirs: Floats, normals: Floats, mask: NDArray[np.bool_]) -> dict[str, Any]:
    """How normals read by `read_normals` agree with ours, [H, W, 3] both, over ``mask`` [H, W] where both have one.

    authors_pixels, authors_error_deg: the mean angle; authors_axes: which of the eight ways to exchange and to negate
    x and y brings them closest to ours ("x, y": none is needed; "y, -x": our x is their y, our y their -x), and
    authors_axes_error_deg: the mean angle then; authors_frame: the frame in which a face's normals look like theirs,
    from them alone. Empty where fewer than three pixels are left.
    """
    both = mask & (theirs != 0).any(-1)
    if both.sum() < 3:
        return {}
    seen, ours = theirs[both], normals[both]
    errors = {name: float(angle_deg(_turned(seen, name), ours).mean()) for name in _AXES}
    closest = min(errors, key=lambda name: errors[name])
    return {
        "authors_pixels": int(both.sum()),
        "authors_error_deg": errors["x, y"],
        "authors_axes": closest,
        "authors_axes_error_deg": errors[closest],
        "authors_frame": recognise_frame(theirs, both)[0],
    }


def compare_albedo(theirs: Floats, albedo: Floats, mask: NDArray[np.bool_]) -> dict[str, Any]:
    """How an albedo read by `read_albedo` agrees with ours, [H, W] both, over ``mask`` where both are above 0.

    Albedos are known up to a factor, so theirs is scaled to ours first, in least squares. authors_albedo_error: root
    mean square difference, of our mean. Empty where fewer than three pixels are left.
    """
    both = mask & (theirs > 0) & (albedo > 0)
    if both.sum() < 3:
        return {}
    a, b = theirs[both].astype(np.float64), albedo[both].astype(np.float64)
    difference = a * ((a * b).sum() / (a * a).sum()) - b
    return {"authors_albedo_error": float(np.sqrt((difference**2).mean()) / b.mean())}


def _turned(normals: Floats, axes: str) -> Floats:
    first, sx, second, sy = _AXES[axes]
    return np.stack([sx * normals[:, first], sy * normals[:, second], normals[:, 2]], -1)


def _variables(path: Path, *names: str) -> list[Floats]:
    """Matrices of real numbers from a MATLAB file. Nothing in it is run."""
    from scipy.io import loadmat, whosmat  # slow to import, and most sessions have no such file

    try:
        with path.open("rb") as file:
            if file.read(10) == b"MATLAB 7.3":
                raise InputError(f"{path}: a MATLAB 7.3 file (HDF5), expected version 4 to 7: save(..., '-v7')")
        there = [name for name, *_ in whosmat(path)]
        found = loadmat(path, variable_names=list(names))
    except InputError:
        raise
    except Exception as error:  # scipy raises many kinds for damaged files
        raise InputError(f"{path}: not a MATLAB file that can be read ({error})") from None
    arrays = [found.get(name) for name in names]
    for name, array in zip(names, arrays, strict=True):
        if array is None:
            raise InputError(f"{path}: no {name} in it, found {', '.join(there) or 'nothing'}")
        if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind not in "fiu":
            raise InputError(f"{path}: {name} is no matrix of real numbers")
    return [np.asarray(array, np.float32) for array in arrays]
