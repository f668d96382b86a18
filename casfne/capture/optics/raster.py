"""A z-buffer in torch, for batches: which triangle each pixel sees, where on it, and normals of meshes.

Screen space: x in pixels to the right, y in pixels down, the centre of the top left pixel at (0, 0); the third
coordinate is ``nearness``, any quantity that grows towards the viewer and is affine on the screen: 1 / distance
for a pinhole camera, distance along the axis (negated) for parallel rays.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

SET_UP = 1 << 17  # triangles (of all samples; at least those of one) set up at once: about 30 MB
LARGE = 1 << 12  # triangles cut into squares at once: at most 250 MB, if each fills 256 x 256 pixels
CHUNK = 1 << 16  # pixel-triangle pairs tested at once on a CPU, so that they stay in its cache; about 5 MB
CHUNK_CUDA = 1 << 22  # and on a GPU, which wants much work at once: about 320 MB
SIDES = (1, 2, 3, 4, 6, 8)  # of the squares of pixels tested against a triangle; larger boxes are cut into the last
SLACK = {torch.float64: 1e-9, torch.float32: 1e-5}  # in barycentrics: rounding must not open cracks along edges
NOTHING = -1e20  # nearness below this says that no triangle covers the pixel
SMALLEST = 1e-12  # twice the area in pixels below which a triangle is degenerate
LARGEST = 1e30  # and above which the mesh is broken; float32 would overflow
FIXED = 2.0**46  # steps that the largest triangle's area has in sums over up to 2**17 triangles round a vertex


@dataclass(frozen=True)
class Hits:
    """The N pixels of a batch that see a triangle, ordered by sample, then pixel.

    sample, pixel (row * width + column), triangle: int64 [N]; barycentric float32 [N, 3], of the surface
    (perspective undone), not negative, sum 1; nearness float32 [N]; size (B, H, W).
    """

    sample: Tensor
    pixel: Tensor
    triangle: Tensor
    barycentric: Tensor
    nearness: Tensor
    size: tuple[int, int, int]

    def of(self, index: Tensor) -> "Hits":
        """Some of the hits, by index int64 [M]."""
        sample, pixel, triangle = (values[index] for values in (self.sample, self.pixel, self.triangle))
        return Hits(sample, pixel, triangle, self.barycentric[index], self.nearness[index], self.size)

    def mix(self, values: Tensor, triangles: Tensor) -> Tensor:
        """Per-vertex ``values`` float32 [B, V, C], or [V, C] for all samples, at each hit: [N, C]."""
        corners = triangles.index_select(0, self.triangle)
        if values.ndim == 3:
            corners = corners + (self.sample * values.shape[1])[:, None]
        # a weighted sum of rows in one pass: three times as fast as three gathers
        return functional.embedding_bag(
            corners, values.reshape(-1, values.shape[-1]), mode="sum", per_sample_weights=self.barycentric
        )

    def image(self, values: Tensor, background: float = 0.0) -> Tensor:
        """``values`` [N, C] as pictures [B, C, H, W]; ``background`` where nothing is seen."""
        batch, height, width = self.size
        flat = values.new_full((batch * height * width, values.shape[1]), background)
        flat.index_copy_(0, self.sample * (height * width) + self.pixel, values)
        return flat.view(batch, height, width, -1).permute(0, 3, 1, 2).contiguous()


def rasterise(
    screen: Tensor,
    triangles: Tensor,
    height: int,
    width: int,
    perspective: bool = False,
    two_sided: Tensor | None = None,
) -> Hits:
    """Nearest triangle at each pixel centre, for B meshes of common topology; edges belong to both neighbours.

    screen float32 [B, V, 3] as this module states, triangles int64 [T, 3]. ``perspective``: nearness is 1 / distance
    (triangles with a corner at or behind the camera, nearness <= 0, are not drawn) and barycentrics are corrected for
    it. ``two_sided`` bool [T]: those False are seen only from outside, that is where they turn counter-clockwise to
    the eye; None: all are seen from both sides. Degenerate triangles and those with a corner that is not finite are
    never drawn. Where nearness agrees to about 1 part in 2**(51 - bits of T) the triangle of the lower index wins.
    The same on any device and in any batch. Memory: 9 bytes a pixel of the batch, 60 a hit, and at most what
    ``SET_UP``, ``LARGE`` and ``CHUNK`` say besides, whatever the number and size of triangles; all samples' triangles
    are never set up at once.
    """
    low_bits = (1 << len(triangles).bit_length()) - 1  # of a key: the triangle; above: nearness
    best = torch.full(_padded(screen, height, width), torch.iinfo(torch.int64).min, device=screen.device)
    for pixel, near, triangle in _pairs(screen, triangles, best, perspective, two_sided, torch.float64):
        key = _ordered(near).bitwise_and_(~low_bits).bitwise_or_(low_bits - triangle)
        best.view(-1).scatter_reduce_(0, pixel.view(-1), key.view(-1), "amax")
    keys = best[:, :height, :width].reshape(-1)
    index = (keys > _ordered(screen.new_tensor([NOTHING], dtype=torch.float64))).nonzero()[:, 0]
    triangle = low_bits - (keys.index_select(0, index) & low_bits)
    sample, pixel = index // (height * width), index % (height * width)
    corners = triangles.index_select(0, triangle).T + sample * screen.shape[1]
    barycentric, nearness = _surface(screen.reshape(-1, 3), corners, pixel, width, perspective)
    return Hits(sample, pixel, triangle, barycentric, nearness, (len(screen), height, width))


def nearest(screen: Tensor, triangles: Tensor, size: int, two_sided: Tensor | None = None) -> Tensor:
    """Nearness float32 [B, S, S] of the nearest surface, -inf where there is none: `rasterise` for shadow maps.

    What is behind the eye must come as NaN. In float32 throughout: a pixel within 1e-5 of a triangle's size from its
    edge may fall on either side. Memory: 9 bytes a pixel of the batch, and chunks as there.
    """
    best = torch.full(_padded(screen, size, size), -torch.inf, device=screen.device)
    for pixel, near, _ in _pairs(screen, triangles, best, False, two_sided, torch.float32):
        best.view(-1).scatter_reduce_(0, pixel.view(-1), near.view(-1), "amax")
    seen = best[:, :size, :size]
    return torch.where(seen > NOTHING, seen, -torch.inf)


def _padded(screen: Tensor, height: int, width: int) -> tuple[int, int, int]:
    """The pictures' size with room for squares that begin at the last pixel."""
    return len(screen), height + SIDES[-1] - 1, width + SIDES[-1] - 1


def _ordered(numbers: Tensor) -> Tensor:
    """int64 in the order of float64 ``numbers``: their bits, but for the sign those of negative ones turned round."""
    bits = numbers.view(torch.int64)
    return (bits >> 63).bitwise_and_(torch.iinfo(torch.int64).max).bitwise_xor_(bits)


def _pairs(
    screen: Tensor,
    triangles: Tensor,
    padded: Tensor,
    perspective: bool,
    two_sided: Tensor | None,
    dtype: torch.dtype,
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Pixels of the ``padded`` pictures and triangles that may cover them, in chunks.

    Each: index of the pixel [P, S]; nearness there [P, S], below ``NOTHING`` where the triangle does not cover it;
    triangle [S].
    """
    _check(screen, triangles, two_sided)
    batch, count = len(screen), len(triangles)
    group = max(1, SET_UP // max(1, count))
    for first in range(0, batch, group):
        mesh = _Meshes.of(screen[first : first + group].to(dtype), triangles, perspective)
        for side, owner, left, top in _squares(mesh, padded, two_sided):
            for part in _parts(len(owner), side, screen.device):
                own, x, y = owner[part], left[part], top[part]
                pixel = _pixels(first + own // count, x, y, side, padded)
                yield pixel, _nearness(mesh, own, x, y, side), own % count


def _check(screen: Tensor, triangles: Tensor, two_sided: Tensor | None) -> None:
    if screen.ndim != 3 or screen.shape[2] != 3 or triangles.ndim != 2 or triangles.shape[1] != 3:
        raise ValueError(f"expected [B, V, 3] and [T, 3], got {tuple(screen.shape)} and {tuple(triangles.shape)}")
    if two_sided is not None and (two_sided.dtype != torch.bool or two_sided.shape != triangles.shape[:1]):
        expected = f"bool [{len(triangles)}]"
        raise ValueError(f"two_sided: expected {expected}, got {two_sided.dtype} {list(two_sided.shape)}")


@dataclass(frozen=True)
class _Meshes:
    """Meshes of b samples in one: x, y, z [b * V] of vertices, and each triangle's three vertices, int64 [3, b * T]."""

    xyz: Tensor
    corners: Tensor

    @staticmethod
    def of(screen: Tensor, triangles: Tensor, perspective: bool) -> "_Meshes":
        """x is NaN where a vertex is not finite or behind the camera: no comparison with NaN holds."""
        batch, count, _ = screen.shape
        x, y, z = screen.reshape(-1, 3).T.contiguous()
        x = x + (x + y + z) * 0
        if perspective:
            x = torch.where(z > 0, x, torch.nan)
        base = torch.arange(batch, device=screen.device)[:, None] * count
        return _Meshes(torch.stack([x, y, z]), (triangles.T[:, None] + base).reshape(3, -1))

    def at(self, axis: int, owner: Tensor | None = None) -> list[Tensor]:
        """One coordinate at the three corners of triangles ``owner`` [S], or of all."""
        rows = self.corners if owner is None else [c.index_select(0, owner) for c in self.corners]
        return [self.xyz[axis].index_select(0, row) for row in rows]


def _squares(mesh: _Meshes, padded: Tensor, two_sided: Tensor | None) -> Iterator[tuple[int, Tensor, Tensor, Tensor]]:
    """Squares of pixels that hold all pixels of the triangles' boxes: side, triangle [S], first column and row [S].

    Most triangles of a dense mesh fall away here: they turn away, or there is no pixel centre in their boxes.
    """
    height, width = (n - SIDES[-1] + 1 for n in padded.shape[1:])
    x, y = mesh.at(0), mesh.at(1)
    left, across = _span(x, width)
    top, down = _span(y, height)
    area = _cross(x, y)
    keep = (torch.minimum(across, down) >= 0) & (area.abs() > SMALLEST) & (area.abs() < LARGEST)
    if two_sided is not None:
        keep &= (area < 0) | two_sided.repeat(len(area) // max(1, len(two_sided)))  # y down: outside turns clockwise
    owner = keep.nonzero()[:, 0]
    across, down = across.index_select(0, owner), down.index_select(0, owner)
    largest = torch.maximum(across, down)
    for side, smaller in zip(SIDES, (0, *SIDES), strict=False):
        fits = largest >= smaller if side == SIDES[-1] else (largest >= smaller) & (largest < side)
        which = fits.nonzero()[:, 0]
        own = owner.index_select(0, which)
        if side < SIDES[-1]:
            yield side, own, left.index_select(0, own), top.index_select(0, own)
        else:
            for part in which.split(LARGE):
                yield side, *_cut(owner[part], left, top, across[part], down[part])


def _span(corners: list[Tensor], size: int) -> tuple[Tensor, Tensor]:
    """First pixel of triangles along an axis, and steps to the last: negative if there is no pixel, or NaN."""
    a, b, c = corners
    low = torch.minimum(torch.minimum(a, b), c).ceil_().clamp_min_(0)
    high = torch.maximum(torch.maximum(a, b), c).floor_().clamp_max_(size - 1)
    return low, high.sub_(low)


def _cross(x: Sequence[Tensor], y: Sequence[Tensor]) -> Tensor:
    """Twice the signed area, positive where the corners turn clockwise in the picture."""
    return (x[1] - x[0]) * (y[2] - y[0]) - (y[1] - y[0]) * (x[2] - x[0])


def _cut(owner: Tensor, left: Tensor, top: Tensor, across: Tensor, down: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Large boxes cut into squares of the last of ``SIDES``: triangle, first column and row of each square."""
    side = SIDES[-1]
    columns, rows = across.long() // side + 1, down.long() // side + 1
    counts = columns * rows
    box = torch.repeat_interleave(torch.arange(len(owner), device=owner.device), counts)
    step = torch.arange(len(box), device=owner.device) - (counts.cumsum(0) - counts)[box]
    own, columns = owner[box], columns[box]
    return own, left[own] + side * (step % columns), top[own] + side * (step // columns)


def _parts(count: int, side: int, device: torch.device) -> Iterator[slice]:
    step = max(1, (CHUNK if device.type == "cpu" else CHUNK_CUDA) // side**2)
    return (slice(start, start + step) for start in range(0, count, step))


def _pixels(sample: Tensor, left: Tensor, top: Tensor, side: int, padded: Tensor) -> Tensor:
    """Indices int64 [side * side, S] in the ``padded`` pictures of the squares' pixels."""
    _, height, width = padded.shape
    first = (sample * height + top.long()) * width + left.long()
    steps = torch.arange(side, device=sample.device)
    return first + (steps[:, None] * width + steps).view(-1, 1)


def _nearness(mesh: _Meshes, owner: Tensor, left: Tensor, top: Tensor, side: int) -> Tensor:
    """Nearness [side * side, S] of triangles at the pixels of squares, below ``NOTHING`` beyond their edges."""
    x, y, z = (mesh.at(axis, owner) for axis in range(3))
    steps = torch.arange(side, device=owner.device)[:, None]
    second, third = _weights(x, y, left + steps, (top + steps)[:, None])
    near = second * (z[1] - z[0])
    near += z[0]
    near += third * (z[2] - z[0])
    lowest = torch.minimum(second, third)
    lowest = torch.minimum(lowest, second.add_(third).neg_().add_(1))
    # adds exactly 0 where covered, and elsewhere a number below NOTHING: four times as fast as a choice
    near += lowest.add_(SLACK[near.dtype]).mul_(torch.finfo(near.dtype).max).clamp_max_(0)
    return near.view(side**2, -1)


def _weights(x: Sequence[Tensor], y: Sequence[Tensor], column: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
    """Second and third screen barycentric of pixels in triangles with corners x, y."""
    area = _cross(x, y)
    dx, dy = column - x[0], row - y[0]
    second = dx * ((y[2] - y[0]) / area) - dy * ((x[2] - x[0]) / area)
    third = dy * ((x[1] - x[0]) / area) - dx * ((y[1] - y[0]) / area)
    return second, third


def _surface(points: Tensor, corners: Tensor, pixel: Tensor, width: int, perspective: bool) -> tuple[Tensor, Tensor]:
    """Barycentrics [N, 3] and nearness [N] at pixels (row * width + column) in the triangles that they see.

    points [B * V, 3], corners int64 [3, N].
    """
    x, y, z = zip(*(points.index_select(0, c).double().unbind(1) for c in corners), strict=True)
    second, third = _weights(x, y, pixel % width, pixel // width)
    weights = [w.clamp_min(0) for w in (1 - second - third, second, third)]
    scaled = [w * c for w, c in zip(weights, z, strict=True)]
    near = (scaled[0] + scaled[1] + scaled[2]) / (weights[0] + weights[1] + weights[2])
    if perspective:
        weights = scaled
    total = weights[0] + weights[1] + weights[2]
    return torch.stack([(w / total).float() for w in weights], -1), near.float()


def vertex_normals(vertices: Tensor, triangles: Tensor) -> Tensor:
    """Unit normals float32 [B, V, 3] of vertices [B, V, 3]: area-weighted means over the triangles round a vertex.

    Outward for triangles (int64 [T, 3]) that turn counter-clockwise when seen from outside (x right, y up, z to the
    viewer); zero for a vertex without triangles. Sums are of integers: the same in any order,
    on any device. Memory: about 200 bytes a triangle of the batch.
    """
    if vertices.ndim != 3 or vertices.shape[2] != 3 or triangles.ndim != 2 or triangles.shape[1] != 3:
        raise ValueError(f"expected [B, V, 3] and [T, 3], got {tuple(vertices.shape)} and {tuple(triangles.shape)}")
    mesh = _Meshes.of(vertices.double(), triangles, False)
    batch, count, _ = vertices.shape
    x, y, z = (mesh.at(axis) for axis in range(3))
    area = torch.stack([_cross(y, z), _cross(z, x), _cross(x, y)]).view(3, batch, -1)
    largest = area.abs().amax((0, 2)).clamp_min(torch.finfo(torch.float64).tiny)[:, None]
    steps = (area * (FIXED / largest)).long().view(3, -1)
    total = torch.zeros(3, batch * count, dtype=torch.int64, device=vertices.device)
    for axis in range(3):
        for corner in mesh.corners:
            total[axis].index_add_(0, corner, steps[axis])
    normal = total.double()
    length = normal.square().sum(0).sqrt().clamp_min(1)
    return (normal / length).float().T.reshape(batch, count, 3)
