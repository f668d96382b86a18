"""Kinds of images: by pose, by light, and by tone, where that is known."""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray


@dataclass(frozen=True)
class Edges:
    """Where one kind ends and the next begins."""

    yaw_deg: tuple[float, ...] = (15.0, 30.0, 60.0)  # either way
    light_azimuth_deg: tuple[float, ...] = (-60.0, -20.0, 20.0, 60.0)  # positive: from the right
    luma: tuple[float, ...] = (0.25, 0.4, 0.55)  # of sRGB, Rec. 709, mean over the mask


EDGES = Edges()


def bins_of(row: Mapping[str, Any], image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> dict[str, str]:
    """The kinds that one image is of, by name: ``yaw``, ``pose`` (Photoface's 1 frontal to 5 profile),
    ``light_azimuth`` and ``luma``; those of which its row of the index says nothing are left out.

    Luma stands for tone of skin as it was photographed: an albedo by stereo is known only up to a factor, so that
    two people's cannot be compared. image: uint8 RGB [H, W, 3]; mask: bool [H, W], not empty.
    """
    red, green, blue, _ = cv2.mean(image, mask.astype(np.uint8))
    luma = (0.2126 * red + 0.7152 * green + 0.0722 * blue) / 255
    kinds = {"luma": _kind(luma, EDGES.luma, "")}
    if _said(row, "yaw_deg"):
        kinds["yaw"] = _kind(abs(float(row["yaw_deg"])), EDGES.yaw_deg, " deg")
    if _said(row, "pose"):
        kinds["pose"] = str(row["pose"])
    if _said(row, "light_azimuth_deg"):
        kinds["light_azimuth"] = _kind(float(row["light_azimuth_deg"]), EDGES.light_azimuth_deg, " deg")
    return kinds


def _said(row: Mapping[str, Any], name: str) -> bool:
    return name in row and not pd.isna(row[name])


def _kind(value: float, edges: tuple[float, ...], unit: str) -> str:
    place = bisect_right(edges, value)
    if place == 0:
        return f"under {edges[0]:g}{unit}"
    if place == len(edges):
        return f"{edges[-1]:g}{unit} and more"
    return f"{edges[place - 1]:g} to {edges[place]:g}{unit}"
