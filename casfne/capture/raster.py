"""A z-buffer in torch: which triangle each pixel sees, where on it, and normals and shadows from that.

Screen space: x in pixels to the right, y in pixels down, the centre of the top left pixel at (0, 0); the third
coordinate is ``nearness``, any quantity that grows towards the viewer and is affine on the screen: 1 / distance
for a pinhole camera, distance along the axis (negated) for parallel rays.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

CHUNK = 300_000  # pixel-triangle pairs tested at once: about 30 MB; a single triangle may exceed it by H * W
SHADOW_MAP = 512  # texels along a side: 0.6 mm on a head
SLACK = 1e-9  # in barycentrics: rounding must not open cracks along shared edges


@dataclass(frozen=True)
class Raster:
    """What each pixel sees: triangle int64 [H, W] (-1: nothing), barycentric float32 [H, W, 3], nearness
    float64 [H, W] (-inf: nothing). Barycentrics are those of the surface, perspective undone.
    """

    triangle: Tensor
    barycentric: Tensor
    nearness: Tensor

    @property
    def covered(self) -> Tensor:
        """Pixels that see a triangle, bool [H, W]."""
        return self.triangle >= 0

    def interpolate(self, values: Tensor, triangles: Tensor) -> Tensor:
        """Per-vertex ``values`` [V, C] at each pixel, [H, W, C]; zero where nothing is seen."""
        corners = triangles[self.triangle.clamp_min(0)]  # [H, W, 3]
        mixed = sum(self.barycentric[..., i, None] * values[corners[..., i]] for i in range(3))
        return torch.where(self.covered[..., None], mixed, torch.zeros(()))


def rasterise(screen: Tensor, triangles: Tensor, height: int, width: int, perspective: bool = False) -> Raster:
    """Nearest triangle at each pixel centre; both sides of a triangle are seen, edges belong to both neighbours.

    screen [V, 3] as this module states, triangles int64 [T, 3]. ``perspective``: nearness is 1 / distance, and
    barycentrics are corrected for it. Equal nearness: the triangle of the lower index wins.
    """
    if screen.ndim != 2 or screen.shape[1] != 3 or triangles.ndim != 2 or triangles.shape[1] != 3:
        raise ValueError(f"expected [V, 3] and [T, 3], got {tuple(screen.shape)} and {tuple(triangles.shape)}")
    corners = screen.double()[triangles]  # [T, 3, 3]
    low, size = _boxes(corners, height, width)
    planes = _planes(corners)
    nearest = torch.full((height * width,), -torch.inf, dtype=torch.float64)
    winner = torch.full((height * width,), len(triangles))
    for ids in _chunks(size.prod(-1)):
        chosen, pixels = _candidates(ids, low[ids], size[ids])
        second, third = _weights(planes[chosen], pixels)
        inside = ((second >= -SLACK) & (third >= -SLACK) & (second + third <= 1 + SLACK)).nonzero()[:, 0]
        chosen, pixels, second, third = chosen[inside], pixels[inside], second[inside], third[inside]
        first, *others = corners[..., 2][chosen].unbind(-1)
        near = first + second * (others[0] - first) + third * (others[1] - first)
        _keep_nearest(nearest, winner, pixels[:, 1] * width + pixels[:, 0], near, chosen)
    winner[winner == len(triangles)] = -1
    barycentric = _final_weights(corners, winner, height, width, perspective)
    return Raster(winner.view(height, width), barycentric, nearest.view(height, width))


def _boxes(corners: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """First pixel (x, y) and extent in pixels of each triangle's box within the picture; int64 [T, 2] each."""
    last = torch.tensor([width - 1, height - 1])
    xy = corners[..., :2].clamp(-1e6, 1e6)
    low = xy.amin(1).ceil().long().clamp_min(0)
    high = torch.minimum(xy.amax(1).floor().long(), last)
    return low, (high - low + 1).clamp_min(0)


def _chunks(counts: Tensor) -> list[Tensor]:
    """Indices of triangles with a non-empty box, in groups of about ``CHUNK`` pixels."""
    ids = counts.nonzero()[:, 0]
    group = counts[ids].cumsum(0) // CHUNK
    return list(ids.split(torch.unique_consecutive(group, return_counts=True)[1].tolist())) if len(ids) else []


def _candidates(ids: Tensor, low: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    """Every pixel of every box: triangle index [N] and pixel (x, y) [N, 2]."""
    counts = size.prod(-1)
    row = torch.repeat_interleave(torch.arange(len(ids)), counts)
    step = torch.arange(len(row)) - (counts.cumsum(0) - counts)[row]
    across = size[row, 0]
    offset = torch.stack([step % across, step // across], -1)
    return ids[row], low[row] + offset


def _planes(corners: Tensor) -> Tensor:
    """Per triangle [T, 6]: first corner (x, y), then the gradients of the second and third barycentric."""
    a = corners[:, 0, :2]
    ab, ac = corners[:, 1, :2] - a, corners[:, 2, :2] - a
    area = _cross(ab, ac)
    area = torch.where(area.abs() < 1e-12, torch.nan, area)[:, None]  # comparisons with NaN fail: never inside
    second = torch.stack([ac[:, 1], -ac[:, 0]], -1) / area
    third = torch.stack([-ab[:, 1], ab[:, 0]], -1) / area
    return torch.cat([a, second, third], -1)


def _weights(planes: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Second and third screen barycentric [N] of pixels (x, y) [N, 2] in the triangles of planes [N, 6]."""
    x, y, second_x, second_y, third_x, third_y = planes.unbind(-1)
    dx, dy = pixels[:, 0] - x, pixels[:, 1] - y
    return dx * second_x + dy * second_y, dx * third_x + dy * third_y


def _cross(u: Tensor, v: Tensor) -> Tensor:
    return u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0]


def _keep_nearest(nearest: Tensor, winner: Tensor, pixel: Tensor, near: Tensor, triangle: Tensor) -> None:
    """Update both buffers in place with candidates: pixel [N], nearness [N], triangle [N]."""
    before = nearest.clone()
    nearest.scatter_reduce_(0, pixel, near, "amax")
    winner[nearest > before] = torch.iinfo(torch.int64).max
    best = near == nearest[pixel]
    winner.scatter_reduce_(0, pixel[best], triangle[best], "amin")


def _final_weights(corners: Tensor, winner: Tensor, height: int, width: int, perspective: bool) -> Tensor:
    """Barycentrics float32 [H, W, 3] of each pixel in its winning triangle; zero where there is none."""
    index = (winner >= 0).nonzero()[:, 0]
    seen = corners[winner[index]]
    second, third = _weights(_planes(seen), torch.stack([index % width, index // width], -1))
    weights = torch.stack([1 - second - third, second, third], -1).clamp_min(0)
    if perspective:
        weights = weights * seen[..., 2]
    result = torch.zeros(height * width, 3)
    result[index] = (weights / weights.sum(-1, keepdim=True)).float()
    return result.view(height, width, 3)


def vertex_normals(vertices: Tensor, triangles: Tensor) -> Tensor:
    """Unit normals float32 [V, 3], area-weighted means over the triangles round a vertex.

    Outward for triangles that turn counter-clockwise when seen from outside (x right, y up, z to the viewer).
    """
    a, b, c = vertices.double()[triangles].unbind(1)
    area = torch.linalg.cross(b - a, c - a)
    total = torch.zeros(len(vertices), 3, dtype=torch.float64)
    total.index_add_(0, triangles.flatten(), area.repeat_interleave(3, 0))
    return functional.normalize(total, dim=-1).float()


@dataclass(frozen=True)
class Camera:
    """A pinhole on the z axis, looking down -z.

    Distance to the origin in metres, focal length in pixels, size of the picture, and the pixel (x, y) at which
    the axis meets it.
    """

    distance: float
    focal: float
    height: int
    width: int
    centre: tuple[float, float]

    def project(self, points: Tensor) -> Tensor:
        """Points [N, 3] in metres (x right, y up, z to the camera) to screen space [N, 3]; nearness 1 / metre."""
        near = 1 / (self.distance - points[:, 2])
        x = self.focal * points[:, 0] * near + self.centre[0]
        y = self.centre[1] - self.focal * points[:, 1] * near
        return torch.stack([x, y, near], -1)

    def see(self, vertices: Tensor, triangles: Tensor) -> Raster:
        """The picture of a mesh: vertices [V, 3] in metres, triangles [T, 3]."""
        return rasterise(self.project(vertices), triangles, self.height, self.width, perspective=True)


def visibility(points: Tensor, normals: Tensor, vertices: Tensor, triangles: Tensor, light: Tensor) -> Tensor:
    """How much of a distant light reaches surface points [N, 3] (normals [N, 3]); float32 [N] in 0..1.

    ``light`` [3]: unit vector to the light. A shadow map of ``SHADOW_MAP`` texels over the mesh, compared at the
    four nearest texels and mixed; points are first lifted off the surface by two texels along the normal and one
    towards the light, so that a facet does not shade itself. Attached shadows are not counted here.
    """
    right, up = _axes(light)
    basis = torch.stack([right, -up, light])  # rows: screen x, screen y (down), nearness
    cast = vertices @ basis.T
    low = cast[:, :2].amin(0)
    texel = float((cast[:, :2].amax(0) - low).max()) / (SHADOW_MAP - 3)
    origin = torch.cat([low - texel, torch.zeros(1)])
    scale = torch.tensor([1 / texel, 1 / texel, 1.0])
    depth = rasterise((cast - origin) * scale, triangles, SHADOW_MAP, SHADOW_MAP).nearness
    lifted = points + 2 * texel * normals + texel * light
    return _lit_share(depth, (lifted @ basis.T - origin) * scale)


def _axes(light: Tensor) -> tuple[Tensor, Tensor]:
    """Two unit vectors that make a right-handed frame with ``light``."""
    helper = torch.tensor([0.0, 1.0, 0.0]) if abs(float(light[1])) < 0.9 else torch.tensor([1.0, 0.0, 0.0])
    right = functional.normalize(torch.linalg.cross(helper, light), dim=0)
    return right, torch.linalg.cross(light, right)


def _lit_share(depth: Tensor, where: Tensor) -> Tensor:
    """Share of the four texels round ``where`` [N, 3] that no surface shades, weighted by closeness; [N]."""
    size = depth.shape[0]
    corner = where[:, :2].floor()
    fraction = where[:, :2] - corner
    lit = torch.zeros(len(where))
    for dx in (0, 1):
        for dy in (0, 1):
            texel = (corner.long() + torch.tensor([dx, dy])).clamp(0, size - 1)
            weight = (fraction if dx else 1 - fraction)[:, 0] * (fraction if dy else 1 - fraction)[:, 1]
            lit += weight * (depth[texel[:, 1], texel[:, 0]] <= where[:, 2])
    return lit
