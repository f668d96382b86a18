"""Photographs under another light, from their normals."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from casfne.applied.lighting import Fit, Floats, Light, Mask, fit
from casfne.images import linear_to_srgb, srgb_to_linear, to_uint8

_DARKEST = 0.1  # squared shading (1 on average) below which the face's own albedo stands in for what hardly shows
_LEAST_TOLD = 0.1  # of a pixel's albedo, by its own light: less is as good as nothing
SHARP, SOFT = 1 / 40, 1 / 5  # of the mask's extent: within it the new light fades into the photograph's own; for a mask
# of the face's own outline, and for an oval that cuts across forehead and cheeks, as labels have it


@dataclass(frozen=True)
class Relightable:
    """A photograph taken apart once, so that lights can move without flicker: only the shading then changes.

    linear [H, W, 3]: light of the photograph; normals [H, W, 3]; mask [H, W]; fit: its own light; feather: how wide the
    mask's edge is, ``SHARP`` or ``SOFT``.
    """

    linear: Floats
    normals: Floats
    mask: Mask
    fit: Fit
    feather: float

    @staticmethod
    def of(photo: NDArray[np.uint8], normals: Floats, mask: Mask, feather: float = SHARP) -> "Relightable":
        """Of uint8 sRGB [H, W, 3] with unit ``normals`` [H, W, 3] (frame opengl) where ``mask`` [H, W] says. ValueError
        as `lighting.fit`."""
        light = linear(photo)
        return Relightable(light, normals, mask, fit(light, normals, mask), feather)

    def under(self, light: Light, behind: Floats | None = None) -> Floats:
        """Linear light [H, W, 3] under ``light``; off the mask ``behind`` [H, W, 3], by default the photograph.

        albedo * new shading, and what the fit cannot explain (highlights, cast shadows), less of it where the new light
        is weaker: under its own light the photograph comes out as it is, but for pixels that the fit leaves without any
        light. Continuous in the light. Shadows that were cast stay, new ones are not cast.
        """
        old, new = self.fit.light.shading(self.normals), light.shading(self.normals)
        albedo = (self.linear * old + _DARKEST * self.fit.albedo) / (old**2 + _DARKEST)
        unexplained = self.linear - albedo * old
        lit = albedo * new + unexplained * np.minimum(new / np.maximum(old, 1e-3), 1)
        ground = self.linear if behind is None else behind
        return np.asarray(ground + (np.maximum(lit, 0) - ground) * self._share(old)[..., None], np.float32)

    def _share(self, old: Floats) -> Floats:
        """How much of the new light is shown, [H, W] in 0..1: 1 well inside the mask, 0 outside. Near a ``SOFT`` edge,
        less where the ``old`` shading [H, W, 3] tells little: a wall behind the face would come out as skin."""
        depth = cv2.distanceTransform(np.pad(self.mask.astype(np.uint8), 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
        reach = max(self.feather * float(np.sqrt(self.mask.sum())), 1)
        share = np.asarray(np.clip(depth / reach, 0, 1), np.float32)
        told = np.mean(old**2 / (old**2 + _DARKEST), -1)
        return share if self.feather == SHARP else share ** (1 / np.maximum(told, _LEAST_TOLD))


def linear(photo: NDArray[np.uint8]) -> Floats:
    """The linear light [H, W, 3] of uint8 sRGB."""
    return srgb_to_linear(photo.astype(np.float32) / 255)


def picture(linear: Floats) -> NDArray[np.uint8]:
    """Linear light [H, W, 3] as sRGB uint8; what is brighter than white is clipped."""
    return to_uint8(linear_to_srgb(linear))
