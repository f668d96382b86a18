"""How well shifts between flashes are found, on simulated people."""

import numpy as np

from benchmarks.photometric.sessions import Session, session, studio
from benchmarks.photometric.solvers import CASES, PEOPLE, SEED
from casfne.normals import angle_deg
from casfne.stereo.registration import align, register_capture
from casfne.stereo.surface import Settings, solve_images

PLAIN = Settings(solver="least-squares")
TITLE = "Registration"
TEXT = """The same people. Errors in pixels of the shifts that are sure, and mean angles to the truth, in degrees, of
plain least squares on the pictures as they were taken, moved back by what was found, and moved back by the truth."""


def normal_error(taken: Session, shifts: np.ndarray) -> float:
    """Mean angle in degrees over the face, of plain least squares with ``shifts`` undone."""
    capture = taken.capture
    surface = solve_images(align(capture.images, shifts, capture.white), capture.lights, PLAIN, capture.white)
    return float(angle_deg(surface.normals, taken.normal)[surface.mask & taken.face].mean())


def table() -> list[list[str]]:
    """Rows of cells, the first the heads."""
    place = studio()
    lines = [["disturbance", "sure", "mean error", "largest", "as taken", "moved by what was found", "by the truth"]]
    for name, changes in CASES.items():
        sessions = [session(place, SEED, i, changes) for i in range(PEOPLE)]
        found = [register_capture(s.capture, s.face) for s in sessions]
        pairs = list(zip(sessions, found, strict=True))
        sure = np.concatenate([f.sure[1:] for f in found])
        errors = np.concatenate([np.linalg.norm(f.shifts - s.moved, axis=1)[1:] for s, f in pairs])[sure]
        size = [f"{errors.mean():.3f}", f"{errors.max():.3f}"] if errors.size else ["-", "-"]
        angles = [(normal_error(s, s.moved * 0), normal_error(s, f.shifts), normal_error(s, s.moved)) for s, f in pairs]
        lines.append([name, f"{sure.mean():.0%}", *size, *(f"{a:.2f}" for a in np.mean(angles, 0))])
    return lines
