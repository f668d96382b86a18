"""Florence 2D/3D (MICC): textured scans, rendered as samples with exact normals.

    <root>/subject_01/Model/frontal1/obj/<id>.obj     triangles with texture coordinates; x right, y up, z forward
                                        /<id>.mtl     names one picture, map_Kd, beside it

Each person's scans are turned to each pose and lit by each light. A crop is framed as the detector frames the face of
a frontal picture, and turns with the head. The mask is the face oval of that crop where the scan fills it, the scan's
smooth vertex normals are the truth.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from casfne.corpora.samples import Row
from casfne.corpora.scans import read_scan, see, turned, upright
from casfne.corpora.truths import Cutter, Job, capture_rows
from casfne.errors import InputError
from casfne.images import linear_to_srgb, to_uint8

SCANS = "subject_*/Model/frontal*/obj/*.obj"
POSES = ((0.0, 0.0), (30.0, 0.0), (-30.0, 0.0))  # yaw, pitch
LIGHTS = ((0.0, 0.0), (45.0, 20.0), (-45.0, 20.0))  # azimuth, elevation

Angles = Sequence[tuple[float, float]]
"""Pairs in degrees."""


def florence_jobs(root: Path, out: Path, cutter: Cutter, poses: Angles = POSES, lights: Angles = LIGHTS) -> list[Job]:
    """A job for each scan: a capture for each pose (yaw, pitch), with an image for each light (azimuth, elevation).

    InputError: no scan below ``root``.
    """
    scans = sorted(root.glob(SCANS))
    if not scans:
        raise InputError(f"{root}: no Florence: expected subject_01/Model/frontal1/obj/<id>.obj and others below it")
    return [
        Job(
            str(path),
            [f"{_name(path, *pose)}.npz" for pose in poses],
            partial(_make, path, out, cutter, poses, lights),
        )
        for path in scans
    ]


def _name(path: Path, yaw: float, pitch: float) -> str:
    """Person, session, scan and pose, as in subject_01_frontal1_110920150452_+30-7.5."""
    subject, session = path.parents[3].name, path.parents[1].name
    return f"{subject}_{session}_{path.stem}_{yaw:+g}{pitch:+g}"


def _make(path: Path, out: Path, cutter: Cutter, poses: Angles, lights: Angles) -> list[Row]:
    try:
        scan = upright(read_scan(path), lambda linear: cutter.largest(to_uint8(linear_to_srgb(linear)), str(path)))
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None
    rows: list[Row] = []
    for yaw, pitch in poses:
        shown = see(*turned(scan, yaw, pitch), lights)
        mask = shown.mask & cutter.oval
        maps = {"normal": shown.normal, "mask": mask, "trust": mask, "albedo": shown.albedo.mean(-1)}
        images = np.stack([to_uint8(linear_to_srgb(shown.image(i))) for i in range(len(lights))])
        stem = _name(path, yaw, pitch)
        common = {
            "subject": path.parents[3].name,
            "session": path.parents[1].name,
            "source": "florence",
            "yaw_deg": yaw,
            "pitch_deg": pitch,
            "roll_deg": 0.0,
        }
        each = [
            {"sample_id": f"{stem}_light{i}", "light_azimuth_deg": a, "light_elevation_deg": e}
            for i, (a, e) in enumerate(lights)
        ]
        rows += capture_rows(out, stem, images, maps, common, each)
    return rows
