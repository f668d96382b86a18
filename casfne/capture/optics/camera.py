"""A pinhole camera, one for each sample of a batch."""

from dataclasses import dataclass

import torch
from torch import Tensor

from casfne.capture.optics.raster import Hits, rasterise


@dataclass(frozen=True)
class Camera:
    """Pinholes on the z axis, looking down -z, of B samples.

    distance [B]: metres to the origin; focal [B]: pixels; centre [B, 2]: the pixel (x, y) at which the axis meets the
    picture; height, width: its size. ValueError for a camera that cannot be.
    """

    distance: Tensor
    focal: Tensor
    centre: Tensor
    height: int
    width: int

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise ValueError(f"camera: expected a picture of at least 1 x 1, got {self.height} x {self.width}")
        batch = len(self.focal)
        if self.distance.shape != (batch,) or self.focal.shape != (batch,) or self.centre.shape != (batch, 2):
            shapes = [list(v.shape) for v in (self.distance, self.focal, self.centre)]
            raise ValueError(f"camera: expected distance [B], focal [B] and centre [B, 2], got {shapes}")
        for name in ("distance", "focal"):
            _require(getattr(self, name), f"camera: expected a finite {name} > 0", 0)
        _require(self.centre, "camera: expected a finite centre", -torch.inf)

    def project(self, points: Tensor) -> Tensor:
        """Points [B, V, 3] in metres (x right, y up, z to the camera) to screen space [B, V, 3]; see `raster`.

        Nearness is 1 / metres from the plane of the pinhole, and negative behind it.
        """
        if points.ndim != 3 or points.shape[0] != len(self.focal) or points.shape[2] != 3:
            raise ValueError(f"expected points [{len(self.focal)}, V, 3], got {list(points.shape)}")
        x, y, z = points.unbind(-1)
        near = 1 / (self.distance[:, None] - z)
        scale = self.focal[:, None] * near
        return torch.stack([self.centre[:, :1] + scale * x, self.centre[:, 1:] - scale * y, near], -1)

    def see(self, vertices: Tensor, triangles: Tensor, two_sided: Tensor | None = None) -> Hits:
        """The pictures of meshes: vertices [B, V, 3] in metres, the rest as `rasterise` has it."""
        screen = self.project(vertices)
        return rasterise(screen, triangles, self.height, self.width, perspective=True, two_sided=two_sided)

    @staticmethod
    def depth(nearness: Tensor) -> Tensor:
        """Metres from the pinhole along the axis, for nearness of any shape."""
        return 1 / nearness


def _require(values: Tensor, message: str, above: float) -> None:
    """ValueError that shows the first value that is not finite or not greater than ``above``."""
    good = values.isfinite() & (values > above)
    if not good.all():
        raise ValueError(f"{message}, got {float(values[~good][0])}")
