"""Lights, and the shadows that they cast: shadow maps by the rasteriser, softened with the light's size.

A shadow map is a picture from the light (Williams 1978): a point is lit where the picture shows nothing nearer to
the light. Blockers are looked for round the point, and the shadow is averaged over a disc that grows with their
distance from it and with the light (Fernando 2005). What is nearer is judged against the plane of the surface, not
its point, so that a wide disc does not find the surface itself.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional

from casfne.capture.optics.raster import nearest

SEARCH = 0.1  # metres between a blocker and its shadow, up to which the blocker is looked for
SEARCH_TAPS, SHADOW_TAPS = 16, 16  # places of the map looked at for blockers, and for their shadow
LIFT = 1.5  # texels along the normal by which points leave the surface: facets do not lie on the smooth surface
GRAZING = 0.05  # smallest cosine between light and surface; at it a texel spans 20 of its sides of surface
WIDEST = 0.08  # of the map's side: largest radius of a disc; beyond it taps would stand too far apart
SHARP = (0.5, 2.0)  # texels of radius: up to the first four texels are mixed, from the second on a disc is
GOLDEN = math.pi * (3 - math.sqrt(5))  # turn between a spiral's taps
OPEN = 2.0  # tangent of the widest angle between a near light's axis and what its map shows
CLOSEST = 0.01  # metres along its axis within which a near light casts no shadow
CHUNK, CHUNK_CUDA = 1 << 13, 1 << 18  # pairs of point and light looked up at once: 8 and 250 MB

Axes = Sequence[Tensor] | Tensor  # x, y and z [N] of vectors


@dataclass(frozen=True)
class Lights:
    """L lights of each of B samples.

    place float32 [B, L, 3]: unit direction to a distant light, or where a near one is, in metres; near bool [B, L];
    colour [B, L, 3]: irradiance at the origin of a surface that faces the light, linear RGB; size [B, L]: angular
    radius in radians as seen from the origin, 0 a point; ambient [B, 9, 3]: radiance of the surroundings, real
    spherical harmonics of order 0..2 (Y00, then y, z, x, then xy, yz, 3z2-1, xz, x2-y2).
    """

    place: Tensor
    near: Tensor
    colour: Tensor
    size: Tensor
    ambient: Tensor

    def towards(self, points: Tensor, sample: Tensor, light: int) -> tuple[Tensor, Tensor]:
        """Unit direction to a light, and its irradiance when faced, at points [N, 3] of samples [N]; [N, 3] each.

        A near light's falls with the square of the distance, and equals ``colour`` at the origin.
        """
        place, colour, near = (v[:, light].index_select(0, sample) for v in (self.place, self.colour, self.near))
        away = torch.where(near[:, None], place - points, place)
        square = _dot(away.T, away.T)[:, None].clamp_min(CLOSEST**2)
        fall = torch.where(near[:, None], _dot(place.T, place.T)[:, None] / square, 1.0)
        return away * square.rsqrt(), colour * fall


def visibility(
    points: Tensor,
    normals: Tensor,
    sample: Tensor,
    vertices: Tensor,
    triangles: Tensor,
    lights: Lights,
    texels: int,
    two_sided: Tensor | None = None,
) -> Tensor:
    """How much of each light reaches points of surfaces, float32 [N, L] in 0..1; 1 where a point faces away, and for
    lights of colour 0, which cost nothing.

    points [N, 3] in metres, their smooth unit normals [N, 3], sample int64 [N]; the meshes that cast: vertices
    [B, V, 3], triangles int64 [T, 3]; ``texels``: side of the maps, which span what the points need, not all of the
    mesh; ``two_sided`` bool [T] as in `rasterise`: closed meshes cast the same shadow, and faster, when their
    triangles that face away from the light are left out. Attached shadows are not counted: multiply by the cosine.
    Blockers further than 0.1 m still cast, but their shadow may be too sharp. Memory: 9 bytes a texel of B * L maps,
    36 a vertex and light, about 100 a point and light, and what ``CHUNK`` says.
    """
    _check(points, normals, sample, vertices, lights)
    count = lights.near.shape[1]
    which, light = _facing(points, normals, sample, lights).nonzero(as_tuple=True)
    owner = sample.index_select(0, which) * count + light
    maps = _Maps.of(lights, points.index_select(0, which), owner, texels)
    depth = nearest(maps.screen(vertices), triangles, texels, two_sided=two_sided)
    lit = points.new_ones(len(points) * count)
    chunk = CHUNK_CUDA if points.is_cuda else CHUNK
    for part in (slice(start, start + chunk) for start in range(0, len(which), chunk)):
        receivers = maps.receivers(points[which[part]], normals[which[part]], owner[part])
        lit[which[part] * count + light[part]] = _share(depth, receivers)
    return lit.view(-1, count)


def _check(points: Tensor, normals: Tensor, sample: Tensor, vertices: Tensor, lights: Lights) -> None:
    if points.ndim != 2 or points.shape[1] != 3 or normals.shape != points.shape or sample.shape != points.shape[:1]:
        shapes = [list(v.shape) for v in (points, normals, sample)]
        raise ValueError(f"expected points [N, 3], normals [N, 3] and sample [N], got {shapes}")
    if vertices.ndim != 3 or len(vertices) != len(lights.near):
        raise ValueError(f"expected vertices [{len(lights.near)}, V, 3], as lights have it, got {list(vertices.shape)}")


def _facing(points: Tensor, normals: Tensor, sample: Tensor, lights: Lights) -> Tensor:
    """Whether points face lights that shine, bool [N, L]."""
    faces, shines = [], (lights.colour > 0).any(-1)
    for light in range(lights.near.shape[1]):
        place, near = lights.place[:, light].index_select(0, sample), lights.near[:, light].index_select(0, sample)
        faced = _dot(normals.T, place.T) > torch.where(near, _dot(normals.T, points.T), 0)
        faces.append(faced & shines[:, light].index_select(0, sample))
    return torch.stack(faces, 1)


@dataclass(frozen=True)
class _Maps:
    """K = B * L shadow maps. Their frames: x right, y up in the map, z back to the light.

    axes [K, 3, 3]: rows x, y, z; eye [K, 3]: where a near light is, 0 for distant ones; near bool [K]; low [K, 2]:
    the map's corner, and texel [K]: a texel's side, in metres (distant) or tangents (near); size [K]: the light's
    radius in metres per metre of gap (distant) or in metres (near).
    """

    axes: Tensor
    eye: Tensor
    near: Tensor
    low: Tensor
    texel: Tensor
    size: Tensor
    texels: int

    @staticmethod
    def of(lights: Lights, points: Tensor, owner: Tensor, texels: int) -> "_Maps":
        """The smallest maps that show ``points`` [M, 3] to the lights ``owner`` [M], and what is close to them."""
        place, near = lights.place.reshape(-1, 3), lights.near.flatten()
        eye = place * near[:, None]
        axes, distance = _axes(place), torch.where(near, place.norm(dim=-1), 1)
        size = lights.size.flatten().tan() * distance
        across, down, _ = _flat(_turned(axes, eye, points, owner), near.index_select(0, owner))
        margin = SEARCH * size / distance**2
        open_x, open_y = (_extent(v, owner, margin, near) for v in (across, down))
        side = torch.maximum(open_x[1] - open_x[0], open_y[1] - open_y[0]).clamp_min(1e-6)
        texel = side / (texels - 3)
        used = torch.zeros_like(near).index_fill_(0, owner, True)
        # nothing is drawn on a map that no point needs
        low = torch.stack([open_x[0], open_y[0]], -1).sub(texel[:, None]).masked_fill(~used[:, None], torch.inf)
        return _Maps(axes, eye, near, low, texel, size, texels)

    def screen(self, vertices: Tensor) -> Tensor:
        """Vertices [B, V, 3] in the screen space of the maps, [K, V, 3]; NaN behind a near light."""
        eye, axes = self.eye.view(len(vertices), -1, 3, 1), self.axes.view(len(vertices), -1, 3, 3, 1)
        away = [vertices[:, None, :, i] - eye[:, :, i] for i in range(3)]  # [B, L, V]
        # not as a product of matrices: its rounding may depend on the batch
        x, y, z = (_dot(axes[:, :, i].unbind(2), away).flatten(0, 1) for i in range(3))
        across, down, nearness = _flat((x, y, z), self.near[:, None])
        nearness = nearness.masked_fill(self.near[:, None] & (z > -CLOSEST), torch.nan)
        x, y = ((v - self.low[:, i, None]) / self.texel[:, None] for i, v in enumerate((across, down)))
        return torch.stack([x, y, nearness], -1)

    def receivers(self, points: Tensor, normals: Tensor, owner: Tensor) -> "_Receivers":
        """Points [M, 3] with normals as the maps ``owner`` [M] have them, lifted off their surface."""
        near, texel, size = (v.index_select(0, owner) for v in (self.near, self.texel, self.size))
        normal = _turned(self.axes, torch.zeros_like(self.eye), normals, owner)
        place = _turned(self.axes, self.eye, points, owner)
        lift = LIFT * texel * torch.where(near, -place[2], 1)
        place = (place[0] + lift * normal[0], place[1] + lift * normal[1], place[2] + lift * normal[2])
        across, down, nearness = _flat(place, near)
        x, y = ((v - self.low[:, i].index_select(0, owner)) / texel for i, v in enumerate((across, down)))
        shows = ~near | (place[2] < -CLOSEST)
        # the surface's plane on the map: nearness is affine on it
        distance = _dot(place, normal)
        far = _dot(place, place).sqrt()
        steep = texel / torch.where(near, distance.minimum(-GRAZING * far), -normal[2].clamp_min(GRAZING))
        gap = torch.where(near, SEARCH * nearness.square(), SEARCH)
        spread = size / texel
        return _Receivers(owner, x, y, nearness, normal[0] * steep, -normal[1] * steep, spread, spread * gap, shows)


@dataclass(frozen=True)
class _Receivers:
    """M points on their maps, all [M]: owner, the map; x, y, nearness; slope_x, slope_y: change of nearness a texel
    along the surface's plane; spread: radius of the shadow's edge in texels, for a blocker nearer by 1; reach: radius
    in texels within which blockers are looked for; shows: whether the map shows the point.
    """

    owner: Tensor
    x: Tensor
    y: Tensor
    nearness: Tensor
    slope_x: Tensor
    slope_y: Tensor
    spread: Tensor
    reach: Tensor
    shows: Tensor

    def of(self, index: Tensor) -> "_Receivers":
        """Some of the points."""
        return _Receivers(*(getattr(self, f.name).index_select(0, index) for f in fields(self)))


def _axes(place: Tensor) -> Tensor:
    """Right-handed frames [K, 3, 3] whose third rows are the directions of ``place`` [K, 3]."""
    back = functional.normalize(place, dim=-1)
    upright = back[:, 1:2].abs() < 0.9
    helper = torch.where(upright, place.new_tensor([0.0, 1, 0]), place.new_tensor([1.0, 0, 0]))
    right = functional.normalize(torch.linalg.cross(helper, back), dim=-1)
    return torch.stack([right, torch.linalg.cross(back, right), back], 1)


def _turned(axes: Tensor, eye: Tensor, points: Tensor, owner: Tensor) -> Axes:
    """x, y, z [M] of points [M, 3] in the frames ``owner`` [M]."""
    rows = axes.reshape(-1, 9).T.contiguous()
    away = [points[:, i] - eye[:, i].index_select(0, owner) for i in range(3)]
    x, y, z = (_dot([row.index_select(0, owner) for row in rows[3 * r : 3 * r + 3]], away) for r in range(3))
    return x, y, z


def _flat(place: Axes, near: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Right and down on a map at unit distance, and nearness, of places x, y, z in its frame."""
    x, y, z = place
    scale = torch.where(near, 1 / (-z).clamp_min(CLOSEST), 1)
    return x * scale, -y * scale, torch.where(near, scale, z)


def _extent(values: Tensor, owner: Tensor, margin: Tensor, near: Tensor) -> tuple[Tensor, Tensor]:
    """Least and largest of ``values`` [M] on each map, [K] each, with a margin; a near light's map ends at OPEN."""
    low = torch.full_like(margin, torch.inf).scatter_reduce_(0, owner, values, "amin") - margin
    high = torch.full_like(margin, -torch.inf).scatter_reduce_(0, owner, values, "amax") + margin
    low, high = (torch.where(near, v.clamp(-OPEN, OPEN), v) for v in (low, high))
    empty = ~(low < high)
    return low.masked_fill(empty, 0), high.masked_fill(empty, 1)


def _share(depth: Tensor, points: _Receivers) -> Tensor:
    """How much of the light reaches ``points``, [M]."""
    cells = _cells(points)
    searched = _disc(points, points.reach.clamp_max(WIDEST * depth.shape[-1]), SEARCH_TAPS, 0.75)
    height, plane, away = _seen(depth, points, *(torch.cat(pair) for pair in zip(cells, searched, strict=True)))
    # above the surface's horizon, and within the cone from the point to the light
    blocks = (height > plane) & (away <= points.spread * height + 1.5) & points.shows
    hard = _mixed(points, (~blocks[:4]).float())
    mean = (height.clamp_min(0) * blocks).sum(0) / blocks.sum(0).clamp_min(1)
    radius = (points.spread * mean).clamp_max(WIDEST * depth.shape[-1])
    soft = (radius > SHARP[0]).nonzero()[:, 0]
    share = _soft_share(depth, points.of(soft), mean.index_select(0, soft), radius.index_select(0, soft))
    softness = ((radius.index_select(0, soft) - SHARP[0]) / (SHARP[1] - SHARP[0])).clamp_max(1)
    return hard.index_copy_(0, soft, torch.lerp(hard.index_select(0, soft), share, softness))


def _soft_share(depth: Tensor, points: _Receivers, blocker: Tensor, radius: Tensor) -> Tensor:
    """The same for blockers nearer than the points by ``blocker`` [M], by a disc of ``radius`` texels [M].

    What of the light's disc is below the surface's horizon is left out: the cosine counts it.
    """
    height, plane, _ = _seen(depth, points, *_disc(points, radius, SHADOW_TAPS, 0.5))
    above = plane < blocker
    return ((height <= plane) & above).sum(0) / above.sum(0).clamp_min(1)


def _cells(points: _Receivers) -> tuple[Tensor, Tensor]:
    """The four texels round each point: columns and rows [4, M]."""
    steps = torch.arange(2, device=points.x.device)[:, None]
    return (points.x.floor() + steps).repeat(2, 1), (points.y.floor() + steps).repeat_interleave(2, 0)


def _mixed(points: _Receivers, values: Tensor) -> Tensor:
    """``values`` [4, M] of `_cells` between them, [M]; exactly theirs where all four agree."""
    right, down = points.x - points.x.floor(), points.y - points.y.floor()
    return torch.lerp(torch.lerp(values[0], values[1], right), torch.lerp(values[2], values[3], right), down)


def _disc(points: _Receivers, radius: Tensor, taps: int, power: float) -> tuple[Tensor, Tensor]:
    """Columns and rows [taps, M] of texels on a spiral (Vogel 1979) of ``radius`` [M] texels round each point.

    ``power``: 0.5 fills the disc evenly, 1 its middle more. Each point turns the spiral by an angle of its own, so that
    too few taps show as fine grain and not as steps.
    """
    index = torch.arange(taps, device=radius.device, dtype=radius.dtype)[:, None]
    length, angle = ((index + 0.5) / taps) ** power, index * GOLDEN
    along, across = length * angle.cos(), length * angle.sin()
    turn = _turn(points)
    cos, sin = radius * turn.cos(), radius * turn.sin()
    return (along * cos - across * sin + points.x).round_(), (along * sin + across * cos + points.y).round_()


def _turn(points: _Receivers) -> Tensor:
    """An angle [M] that looks random and follows from the texel that a point is on, whatever the batch."""
    place = points.x.long() * 73856093 ^ points.y.long() * 19349663  # Teschner et al. 2003
    mixed = (place * 2654435761 >> 16) & 1023  # Knuth's multiplier spreads them over the bits
    return mixed.to(points.x.dtype) * (2 * math.pi / 1024)


def _seen(depth: Tensor, points: _Receivers, column: Tensor, row: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Texels [P, M]: nearness of what they show and of the points' planes there, less the points'; texels between."""
    size = depth.shape[-1]
    column, row = column.clamp_(0, size - 1), row.clamp_(0, size - 1)
    index = (points.owner * size + row.long()) * size + column.long()
    height = depth.view(-1).index_select(0, index.view(-1)).view_as(column) - points.nearness
    dx, dy = column.sub_(points.x), row.sub_(points.y)
    return height, dx * points.slope_x + dy * points.slope_y, (dx * dx + dy * dy).sqrt_()


def _dot(a: Axes, b: Axes) -> Tensor:
    """Products of vectors given by their x, y and z; torch's sum over so short an axis is slow."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
