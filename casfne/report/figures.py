"""Figures as pictures: grids of faces, their normals by stage, shading under a light, error maps."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from casfne import sources, table
from casfne.corpora.samples import Sample
from casfne.errors import InputError
from casfne.images import SIZE, Crop, decode_image, grid, shade, to_uint8
from casfne.normals import angle_deg, direction, encode, sphere

KEY_LIGHT = direction(35, 25)  # of the shading: from the upper right
ERROR_RANGE_DEG = 40.0  # an error map's brightest colour


def error_map(prediction: NDArray, truth: NDArray, mask: NDArray) -> NDArray[np.uint8]:
    """Angular error [H, W] from black (0) to yellow (40 degrees and more), uint8 RGB; white off the mask."""
    colours = matplotlib.colormaps["inferno"](angle_deg(prediction, truth) / ERROR_RANGE_DEG)[..., :3]
    colours[~mask] = 1
    return to_uint8(colours)


def error_figure(results: Sequence[tuple[Sample, NDArray]]) -> NDArray[np.uint8]:
    """A row for each sample with its stages [T + 1, H, W, 3]: input, truth, stages, last shading, errors."""
    count = len(results[0][1])
    rows = [
        [s.image, encode(s.normal, s.mask)]
        + [encode(n, s.mask) for n in stages]
        + [shade(stages[-1], KEY_LIGHT, s.mask)]
        + [error_map(n, s.normal, s.mask) for n in stages]
        for s, stages in results
    ]
    names = [
        "input",
        "truth",
        *(f"t = {t}" for t in range(count)),
        "shading",
        *(f"error t = {t}, 0..40 deg" for t in range(count)),
    ]
    return grid(rows, names)


SHOWN = ("path", "image_id", "face_index", "crop_left", "crop_top", "crop_side", "normal", "normal_octahedral", "mask")
"""The columns that `label_figure` needs."""


def label_figure(frame: pd.DataFrame) -> NDArray[np.uint8]:
    """A row for each labelled face: crop, normals, shading; ``frame`` has the columns ``SHOWN``."""
    rows = []
    for row in frame.to_dict("records"):
        n, mask = table.normals(row), table.mask(row)
        rows.append([crop_of(row), encode(n, mask), shade(n, KEY_LIGHT, mask)])
    return grid(rows, ["input", "normals", "shading"])


def crop_of(row: Mapping[Any, Any]) -> NDArray[np.uint8]:
    """The face that a label row is about, cut from its image again; grey where that cannot be read any more."""
    try:
        image = decode_image(sources.read_bytes(row["path"]), row["path"])
    except (OSError, InputError):
        return np.full((SIZE, SIZE, 3), 128, np.uint8)
    return Crop(row["crop_left"], row["crop_top"], row["crop_side"]).apply(image)


def frame_figure(sample: Sample) -> NDArray[np.uint8]:
    """The frame of all normals in one picture: a ball and a face in the colours of their normals, axes drawn in."""
    figure = Figure(figsize=(9, 4.6), dpi=110, layout="constrained")
    ball, face = figure.subplots(1, 2)
    ball.imshow(encode(*sphere(SIZE)))
    face.imshow(encode(sample.normal, sample.mask))
    centre = SIZE / 2
    arrow = {"arrowstyle": "-|>", "linewidth": 2, "color": "black"}
    for (dx, dy), name in (((100, 0), "x right"), ((0, -100), "y up")):
        ball.annotate("", (centre + dx, centre + dy), (centre, centre), arrowprops=arrow)
        ball.text(centre + 0.55 * dx + 5, centre + 0.55 * dy + 16, name, fontsize=12)
    ball.plot(centre, centre, "o", color="black", markersize=9)
    ball.text(centre - 118, centre + 16, "z towards you", fontsize=12)
    for (x, y), name in (
        ((0.28, 0.62), "x < 0"),
        ((0.72, 0.62), "x > 0"),
        ((0.5, 0.14), "y > 0"),
        ((0.5, 0.93), "y < 0"),
    ):
        face.text(x * SIZE, y * SIZE, name, fontsize=12, ha="center", va="center")
    for axes, title in ((ball, "colour = (n + 1) / 2, as RGB"), (face, "off the mask: (128, 128, 128)")):
        axes.set_title(title, fontsize=12)
        axes.set_axis_off()
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
