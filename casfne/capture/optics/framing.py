"""Where a face lies in a picture: how corpora, and this project's crops, are framed."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from casfne.capture.optics.camera import Camera

LEFT_EYE, RIGHT_EYE, MOUTH_CORNERS = slice(36, 42), slice(42, 48), [48, 54]  # of the 68 points


@dataclass(frozen=True)
class Framing:
    """A picture of ``height`` x ``width`` pixels; the place ``below_eyes`` of the way from the midpoint of the eyes to
    that of the mouth lies at pixel ``at`` (x, y); eyes are at most ``between_eyes`` pixels apart and at most
    ``eyes_to_mouth`` from the mouth.
    """

    height: int
    width: int
    at: tuple[float, float]
    below_eyes: float
    between_eyes: float
    eyes_to_mouth: float

    def camera(self, points: Tensor, distance: Tensor, zoom: Tensor, shift: Tensor) -> Camera:
        """The cameras that frame 68 points [B, 68, 3] (metres, world) so, from ``distance`` [B] metres.

        ``zoom`` [B] times as large, and moved by ``shift`` [B, 2] (x, y) in shares of the picture's width.
        """
        ones, nothing = torch.ones_like(distance), torch.zeros_like(shift)
        unit = Camera(distance, ones, nothing, 1, 1).project(points)[..., :2]
        left, right = unit[:, LEFT_EYE].mean(1), unit[:, RIGHT_EYE].mean(1)
        eyes, mouth = (left + right) / 2, unit[:, MOUTH_CORNERS].mean(1)
        by_eyes = self.between_eyes / (right - left).norm(dim=-1)
        focal = torch.minimum(by_eyes, self.eyes_to_mouth / (mouth - eyes).norm(dim=-1)) * zoom
        anchor = torch.lerp(eyes, mouth, self.below_eyes)
        at = torch.tensor(self.at, device=points.device) + shift * self.width
        return Camera(distance, focal, at - focal[:, None] * anchor, self.height, self.width)


def training_crop(size: int) -> Framing:
    """The window of `casfne.images.crop_from_points`, at ``size`` pixels."""
    middle = (size - 1) / 2
    return Framing(size, size, (middle, middle), 0.5, size / 3.2, size / 2.7)


def finer(camera: Camera, times: int) -> Camera:
    """The same view, each pixel cut in ``times`` by ``times``."""
    centre = (camera.centre + 0.5) * times - 0.5
    height, width = camera.height * times, camera.width * times
    return replace(camera, focal=camera.focal * times, centre=centre, height=height, width=width)
