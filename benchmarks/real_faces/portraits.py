"""(c) Portraits: a page to look at, and how far the normals of a mirrored photograph are from mirrored normals."""

import copy
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks import PORTRAITS
from casfne.applied.lighting import Light
from casfne.applied.relight import SOFT, Relightable, picture
from casfne.corpora import folder
from casfne.images import grid, shade
from casfne.labelling.faces import Dlib
from casfne.labelling.label import decode
from casfne.labelling.quality import oval
from casfne.model.predictor import CascadePredictor
from casfne.normals import angle_deg, direction, encode

LIGHTS = direction(-45, 20), direction(35, 25)
NEW_LIGHT = Light.directional(-50, 30, 1.2, 0.15)
SHOWN_DEG = 30.0  # of the expected error: its brightest colour


def crops() -> dict[str, NDArray[np.uint8]]:
    """Every face that `casfne label` finds, cropped as it does, uint8 [256, 256, 3]; by image and number."""
    found = {}
    for photo in folder.read(str(PORTRAITS)):
        faces = decode(photo, Dlib())
        found |= {f"{photo.image_id} {f.face_index}": f.pixels for f in faces if f.pixels is not None}
    return found


def flip_differences(predictor: CascadePredictor, faces: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Mean angle in degrees over the face oval between normals of faces [N, 256, 256, 3] and of their mirror images,
    mirrored back; [N]."""
    mirrored = predictor.predict(np.ascontiguousarray(faces[:, :, ::-1]))[:, :, ::-1] * np.array([-1, 1, 1], np.float32)
    return angle_deg(predictor.predict(faces), mirrored)[:, oval()].mean(1)


def one_view(predictor: CascadePredictor) -> CascadePredictor:
    """The same without the mean over a picture and its mirror image."""
    alone = copy.deepcopy(predictor)
    alone.network.config = replace(alone.network.config, symmetric=False)
    return alone


def page(predictor: CascadePredictor, faces: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A row a face: crop, every stage, shading under two lights, the face relit, its expected error; uint8 RGB."""
    mask = oval()
    rows = []
    for crop in faces:
        stages, (error,) = predictor.assess(crop[None])
        last = stages[0, -1]
        colours = cv2.applyColorMap(np.uint8(np.clip(error / SHOWN_DEG, 0, 1) * 255), cv2.COLORMAP_VIRIDIS)
        relit = picture(Relightable.of(crop, last, mask, SOFT).under(NEW_LIGHT))
        rows.append(
            [crop, *map(encode, stages[0]), *(shade(last, light) for light in LIGHTS), relit, colours[..., ::-1]]
        )
    titles = [f"t = {t}" for t in range(predictor.refinements + 1)]
    return grid(
        rows, ["crop", *titles, "lit from the left", "from the right", "relit", f"expected, 0..{SHOWN_DEG:.0f}"]
    )
