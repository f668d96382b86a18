"""ICT-3DRFE: photographs of people in a light stage, with the normals that it measured, as samples.

The database is given out under a licence form, and what is published of it (Stratou et al., 2011: 23 people, 15
expressions, meshes with measured albedo and normals) names no files. This reader takes one layout, and no other:

    <root>/<subject>/<expression>/specular_normal.png         normals, 8 or 16 bits, (n + 1) / 2 of full scale
                                 /photographs/<name>.png ...   pictures in the same pixels, sRGB, one light each

Normals are in the camera's frame, x right, y up, z towards the camera, and grey, or black, where there are none. They
are those of polarised specular reflection: light that has been under the skin makes the diffuse ones smoother than the
surface is. `diffuse_albedo.png` beside them, in the same pixels, is taken as the albedo where it is there; anything
else there (the mesh, diffuse normals, specular albedo) is not read: a mesh without the camera's pose says nothing of
a photograph. Photographs are .png, .jpg, .bmp or .tif.
"""

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from casfne.corpora.samples import Row
from casfne.corpora.truths import Cutter, Job, capture_rows
from casfne.errors import InputError
from casfne.images import SUFFIXES, read_grey, read_image, read_pixels, srgb_to_linear
from casfne.normals import normalise, recognise_frame

NORMALS, ALBEDO, PHOTOGRAPHS = "specular_normal.png", "diffuse_albedo.png", "photographs"
_SHORTEST = 0.5  # a vector this short is no normal
_SURE = 0.3  # of another frame: a face's normals that are so sure to be in one are not taken as they are

Floats = NDArray[np.float32]


def ict3drfe_jobs(root: Path, out: Path, cutter: Cutter) -> list[Job]:
    """A capture for each person and expression. InputError: none below ``root``."""
    folders = sorted({path.parent for name in (NORMALS, PHOTOGRAPHS) for path in root.glob(f"*/*/{name}")})
    if not folders:
        expected = f"<subject>/<expression>/{NORMALS} and {PHOTOGRAPHS}/"
        raise InputError(f"{root}: not ICT-3DRFE in the layout that is read: expected {expected} below it")
    return [Job(str(folder), [f"{_name(folder)}.npz"], partial(_make, folder, out, cutter)) for folder in folders]


def _name(folder: Path) -> str:
    """Person and expression."""
    return f"{folder.parent.name}_{folder.name}"


def _make(folder: Path, out: Path, cutter: Cutter) -> list[Row]:
    paths = sorted(p for p in (folder / PHOTOGRAPHS).glob("*") if p.suffix.lower() in SUFFIXES)
    if not paths:
        raise InputError(f"{folder / PHOTOGRAPHS}: no photographs")
    normals, known = read_normals(folder / NORMALS)
    photographs = [_fitting(path, known) for path in paths]
    brightest = max(photographs, key=lambda photo: float(photo[known].mean()))
    crop = cutter.largest(brightest, str(folder / PHOTOGRAPHS))
    inside = (crop.apply(known.astype(np.float32)) > 0.99) & crop.inside(*known.shape) & cutter.oval
    maps = {
        "normal": normalise(crop.apply(normals)),
        "mask": inside,
        "trust": inside,
        "albedo": crop.apply(_albedo(folder / ALBEDO, known)),
    }
    _check_frame(folder / NORMALS, maps["normal"], inside)
    stem = _name(folder)
    common = {"subject": folder.parent.name, "session": folder.name, "source": "ict3drfe"}
    each = [{"sample_id": f"{stem}_{path.stem}"} for path in paths]
    return capture_rows(out, stem, np.stack([crop.apply(photo) for photo in photographs]), maps, common, each)


def read_normals(path: Path) -> tuple[Floats, NDArray[np.bool_]]:
    """Unit normals [H, W, 3], 0 where there is none, and where there are. InputError naming the file."""
    pixels = read_pixels(path)
    if pixels.shape[2] != 3:
        raise InputError(f"{path}: a grey picture, expected normals in three colours")
    values = pixels / np.float32(np.iinfo(pixels.dtype).max / 2) - 1
    known = (np.linalg.norm(values, axis=-1) > _SHORTEST) & pixels.any(-1)
    if not known.any():
        raise InputError(f"{path}: no normals")
    return normalise(values) * known[..., None], known


def _fitting(path: Path, known: NDArray[np.bool_]) -> NDArray[np.uint8]:
    photo = read_image(path)
    if photo.shape[:2] != known.shape:
        sizes = ["x".join(map(str, shape[1::-1])) for shape in (photo.shape[:2], known.shape)]
        raise InputError(f"{path}: {sizes[0]} pixels, but {NORMALS} has {sizes[1]}: normals in other pixels")
    return photo


def _albedo(path: Path, known: NDArray[np.bool_]) -> Floats:
    """Linear [H, W]; 0 where it is not known."""
    if not path.exists():
        return np.zeros(known.shape, np.float32)
    _fitting(path, known)
    return srgb_to_linear(read_grey(path)) * known


def _check_frame(path: Path, normals: Floats, mask: NDArray[np.bool_]) -> None:
    if mask.sum() < 3:
        return  # which is said where it is written
    frame, certainty = recognise_frame(normals, mask)
    if frame != "opengl" and certainty > _SURE:
        raise InputError(f"{path}: normals look as in frame {frame}, expected x right, y up, z towards the camera")
