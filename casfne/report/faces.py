"""Faces as the page's viewer takes them: pictures and numbers in one JSON text, some 125 KB a face with three stages.

The last stage and the truth are lossless WebP: the page computes with the very bytes of `casfne.normals.encode`.
Earlier stages are kept as half of what they differ by from the last: smaller, and 0.4 degrees off on average.
"""

import base64
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import cv2
import matplotlib
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from casfne import table
from casfne.applied.lighting import fit, functions
from casfne.corpora.samples import Sample
from casfne.images import encode_image, srgb_to_linear, to_uint8
from casfne.normals import FRAMES, angle_deg, convert, encode, sphere
from casfne.report.figures import ERROR_RANGE_DEG, SHOWN, crop_of

Stages = NDArray[np.float32]


@dataclass(frozen=True)
class Face:
    """One face of the viewer. photo uint8 sRGB [256, 256, 3]; stages unit normals [S, 256, 256, 3], the last is that of
    ``refinements`` (S is 1 where only the last was kept); truth [256, 256, 3], zero where unknown, or None; mask
    [256, 256]; facts: what is written below it."""

    name: str
    photo: NDArray[np.uint8]
    stages: Stages
    mask: NDArray[np.bool_]
    refinements: int
    truth: NDArray[np.float32] | None = None
    facts: Sequence[str] = ()

    @property
    def known(self) -> NDArray[np.bool_]:
        """Where there is truth, within the mask."""
        return np.zeros_like(self.mask) if self.truth is None else self.mask & (self.truth != 0).any(-1)

    @property
    def errors_deg(self) -> list[float] | None:
        """Mean angular error of every stage where there is truth; None without any."""
        if self.truth is None:
            return None
        return [float(angle_deg(stage, self.truth)[self.known].mean()) for stage in self.stages]


NUMBERS = {
    "confidence_deg": "expected error",
    "last_move_deg": "last refinement moved",
    "roughness_deg": "roughness",
    "coverage": "coverage",
}
KEY = ["corpus", "image_id", "face_index"]
"""The columns that tell faces apart."""
LABELLED = [*SHOWN, "corpus", "stages", "refinements", *NUMBERS]
"""The columns that `of_labels` needs."""


def of_labels(rows: pd.DataFrame) -> list[Face]:
    """Labelled faces, in the order of ``rows``; their photographs are cut again, grey where they are gone."""
    return [_of_label(row) for row in rows.to_dict("records")]


def _of_label(row: dict[Any, Any]) -> Face:
    kept = row["stages"]
    earlier = [] if kept is None else [table.normals(picture) for picture in list(kept)[:-1]]
    return Face(
        f"{row['corpus']}: {row['image_id']}" + (f", face {row['face_index']}" if row["face_index"] else ""),
        crop_of(row),
        np.stack([*earlier, table.normals(row)]),
        table.mask(row),
        int(row["refinements"]),
        facts=_said(row),
    )


def _said(row: dict[Any, Any]) -> list[str]:
    known = [name for name in NUMBERS if pd.notna(row[name])]
    return [f"{NUMBERS[name]} {row[name]:.2f}{'°' if name.endswith('_deg') else ''}" for name in known]


def of_sample(name: str, sample: Sample, stages: Stages) -> Face:
    """A face with truth and the stages [T + 1, 256, 256, 3] predicted for it. Predictions are shown over the hull of
    the truth's mask: they hold in the shadows too, which have no truth."""
    truth = sample.normal * sample.mask[..., None]
    return Face(name, sample.image, stages, _hull(sample.mask), len(stages) - 1, truth)


def _hull(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    places = cv2.findNonZero(mask.astype(np.uint8))
    filled = np.zeros(mask.shape, np.uint8)
    return mask if places is None else cv2.fillConvexPoly(filled, cv2.convexHull(places), 1) > 0


def spread(scores: "pd.Series[float]", count: int) -> pd.Index:
    """At most ``count`` labels of scores (more is worse), best first, at even steps of their order: the best, the
    worst, and what lies between."""
    order = scores.dropna().sort_values(kind="stable").index
    return order[np.unique(np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int))]


def chosen(frame: pd.DataFrame, count: int) -> pd.DataFrame:
    """At most ``count`` faces of labels by `table.badness`, see `spread`."""
    return frame.loc[spread(table.badness(frame[frame["status"] == "ok"]), count)]


def pictured(labels: str, rows: pd.DataFrame) -> pd.DataFrame:
    """``rows`` of labels again, in their order, with the columns ``LABELLED``."""
    if rows.empty:
        return pd.DataFrame(columns=LABELLED)
    found = table.read(labels, LABELLED, [("image_id", "in", list(rows["image_id"])), ("status", "==", "ok")])
    return rows[KEY].merge(found, "left", KEY, validate="one_to_one")


# --- as JSON ---


def payload(faces: Iterable[Face]) -> str:
    """What the page's script reads, as JSON that may stand inside HTML."""
    data = {
        "faces": [_plain(face) for face in faces],
        "frames": {frame: convert(np.eye(3), "opengl", frame).ravel().tolist() for frame in FRAMES},
        "colours": base64.b64encode(_colours()).decode(),
        "range_deg": ERROR_RANGE_DEG,
    }
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def _colours() -> bytes:
    """The 256 colours of an error map, RGBA."""
    return to_uint8(matplotlib.colormaps["inferno"](np.arange(256) / 255)).tobytes()


def _plain(face: Face) -> dict[str, Any]:
    last = encode(face.stages[-1], face.mask)
    return {
        "name": face.name,
        "photo": _uri(_lossy(face.photo)),
        "normals": _uri(encode_image(last, ".webp")),
        "changes": [_uri(encode_image(_change(encode(n, face.mask), last), ".webp")) for n in face.stages[:-1]],
        "truth": None if face.truth is None else _uri(encode_image(encode(face.truth, face.known), ".webp")),
        "refinements": face.refinements,
        "errors_deg": face.errors_deg,
        "facts": list(face.facts),
    } | _light(face)


def _light(face: Face) -> dict[str, Any]:
    """The photograph's own light, [9, 3] coefficients of a polynomial in the normal, row by row, and the albedo [3];
    None where there is too little to tell it from."""
    if (face.photo == face.photo[0, 0]).all():  # the photograph is gone
        return {"light": None, "albedo": None}
    linear = srgb_to_linear(face.photo.astype(np.float32) / 255)
    try:
        found = fit(linear, face.stages[-1], face.mask)
    except ValueError:
        return {"light": None, "albedo": None}
    coefficients = _polynomial() @ found.light.ambient
    return {"light": [round(float(v), 6) for v in coefficients.ravel()], "albedo": found.albedo.round(6).tolist()}


@cache
def _polynomial() -> NDArray[np.float64]:
    """[9, 9]: what turns coefficients of the surroundings into those of 1, x, y, z, xy, xz, yz, x² - y², 3z² - 1."""
    ball, inside = sphere(16)
    n = ball[inside].astype(np.float64)
    x, y, z = n.T
    terms = np.stack([np.ones_like(x), x, y, z, x * y, x * z, y * z, x**2 - y**2, 3 * z**2 - 1], 1)
    matrix: NDArray[np.float64] = np.linalg.lstsq(terms, functions(n).astype(np.float64), rcond=None)[0]
    return matrix


def _change(stage: NDArray[np.uint8], last: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Half of stage - last, in two's complement."""
    return np.rint((stage.astype(np.float32) - last) / 2).astype(np.int8).view(np.uint8)


def _lossy(photo: NDArray[np.uint8]) -> bytes:
    """Half of what a JPEG takes that looks as well."""
    _, data = cv2.imencode(".webp", cv2.cvtColor(photo, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_WEBP_QUALITY, 90])
    return data.tobytes()


def _uri(webp: bytes) -> str:
    return "data:image/webp;base64," + base64.b64encode(webp).decode()
