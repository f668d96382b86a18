"""What hair grows from and rests on: places of the scalp bound to a head's triangles, and a head's shape as radii."""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from casfne.capture.draws import Draws
from casfne.capture.noise import noise
from casfne.capture.people.heads import FACE, HEAD, HeadModel

CARDS = 640  # locks
RINGS, SPOKES = 24, 56  # of the cap, from the crown to below the hairline
_ROWS, _COLUMNS = 32, 64  # of the table of the head's radius over elevation and azimuth
_LOW_DEG, _HIGH_DEG = -70.0, 90.0  # elevations of that table
_CENTRE = (0.0, 0.01, 0.0)  # of rays and polar angles, inside every head
_BELOW = 0.012  # metres by which the cap reaches under the hairline, where it lies beneath the skin
# the hairline on a head with brows at 0.0245, crown at 0.11 and chin at -0.11: height in m by azimuth
# from the front in degrees
_LINE = (
    (0, 0.080), (20, 0.080), (35, 0.077), (48, 0.067), (58, 0.056), (66, 0.040), (71, 0.008), (80, 0.006), (84, 0.033),
    (104, 0.035), (110, 0.018), (122, -0.035), (140, -0.066), (180, -0.076),
)  # fmt: skip
_LINE_BROWS, _LINE_CROWN, _LINE_CHIN = 0.0245, 0.11, -0.11


def hairline(places: Tensor, model: HeadModel) -> Tensor:
    """How far places [N, 3] on the template lie inside the hairline, about in metres, negative on skin; float32 [N]."""
    knots = torch.tensor(_LINE, device=places.device)
    angle = torch.atan2(places[:, 0].abs(), places[:, 2]).rad2deg()
    right = torch.bucketize(angle, knots[:, 0].contiguous()).clamp(1, len(knots) - 1)
    (angle_0, y_0), (angle_1, y_1) = knots[right - 1].unbind(-1), knots[right].unbind(-1)
    line = torch.lerp(y_0, y_1, (angle - angle_0) / (angle_1 - angle_0))
    slope = (y_1 - y_0) / (angle_1 - angle_0).deg2rad() / 0.085  # a head's radius
    return (_standard_height(places[:, 1], model) - line) / (1 + slope**2).sqrt()


def _standard_height(y: Tensor, model: HeadModel) -> Tensor:
    """Heights on the template as heights on the head that ``_LINE`` was drawn on."""
    brows = model.template[model.landmarks[[19, 24]], 1].mean()
    crown, chin = model.template[:, 1].amax(), model.template[model.landmarks[8], 1]
    above = (y - brows) * ((_LINE_CROWN - _LINE_BROWS) / (crown - brows))
    below = (y - brows) * ((_LINE_BROWS - _LINE_CHIN) / (brows - chin))
    return _LINE_BROWS + torch.where(y > brows, above, below)


@dataclass(frozen=True)
class Scalp:
    """Places bound to a model's triangles: corners int64 [P, 3] and weights [P, 3] of the cap's vertices, the
    cards' roots and the table of radii, one after the other; line [P]: `hairline` there;
    neck [4]: its middle's x and z, half axes.
    """

    corners: Tensor
    weights: Tensor
    line: Tensor
    neck: Tensor

    def places(self, vertices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Cap, roots, table on heads [B, V, 3]."""
        found = (vertices[:, self.corners] * self.weights[..., None]).sum(2)
        return found.split([RINGS * SPOKES, CARDS, _ROWS * _COLUMNS], 1)


@lru_cache(maxsize=4)
def scalp_of(model: HeadModel) -> Scalp:
    """Where hair grows on a model's heads; bound to its template once, for all of its people."""
    skin = model.triangles[(model.region == FACE) | (model.region == HEAD)]
    bottom = model.template[model.landmarks[8], 1] - 0.03  # neck and shoulders would hide the jaw from the table
    skin = skin[model.template[skin][..., 1].amin(1) > bottom]
    upper = skin[hairline(model.template[skin].mean(1), model) > -0.04]
    cap = _cast(model, upper, _cap_directions(model), nearest=True)
    roots = _spread_roots(model, upper)
    table = _cast(model, skin, _table_directions(model.template.device), nearest=False)
    corners, weights = (torch.cat(x) for x in zip(cap, roots, table, strict=True))
    places = (model.template[corners] * weights[..., None]).sum(1)
    return Scalp(corners, weights, hairline(places, model), _neck(model))


def _neck(model: HeadModel) -> Tensor:
    """A neck's usual place and size under jaws whose upper ends are landmarks 0 and 16."""
    low, high = model.template[model.landmarks[[0, 16]]]
    (x, _, z), half = (low + high) / 2, (high[0] - low[0]) / 2
    return torch.stack([x, z - 0.045, 0.95 * half, 0.85 * half])


def _cast(model: HeadModel, skin: Tensor, directions: Tensor, nearest: bool) -> tuple[Tensor, Tensor]:
    """Where rays [D, 3] from the centre leave skin triangles [T, 3]: the first or the last time; corners [D, 3] and
    weights [D, 3], which are zero where a ray meets nothing."""
    a, b, c = (model.template - skin.new_tensor(_CENTRE))[skin].unbind(1)
    normals = [torch.linalg.cross(b, c), torch.linalg.cross(c, a), torch.linalg.cross(a, b)]
    volume = (a * normals[0]).sum(-1)
    found = []
    for some in directions.split(256):
        first, second, third = (some @ n.T for n in normals)  # of one sign: the ray passes through the triangle
        total = first + second + third
        inside = (torch.minimum(torch.minimum(first, second), third) >= 0) & (total > 0) & (volume > 0)
        reach = torch.where(inside, volume / total.clamp_min(1e-20), torch.inf if nearest else -torch.inf)
        best = reach.argmin(1) if nearest else reach.argmax(1)
        weights = torch.stack([w.gather(1, best[:, None])[:, 0] for w in (first, second, third)], -1)
        weights = weights / weights.sum(-1, keepdim=True).clamp_min(1e-20)
        found.append((skin[best], weights * inside.gather(1, best[:, None])))
    return torch.cat([f[0] for f in found]), torch.cat([f[1] for f in found])


def _directions(azimuth: Tensor, elevation: Tensor) -> Tensor:
    """Unit vectors; azimuth 0 is the front, a quarter turn the right of the picture."""
    flat = elevation.cos()
    return torch.stack(torch.broadcast_tensors(azimuth.sin() * flat, elevation.sin(), azimuth.cos() * flat), -1)


def _cap_directions(model: HeadModel) -> Tensor:
    """Rings of rays [RINGS * SPOKES, 3] from the crown to a little below the hairline."""
    device = model.template.device
    azimuth = (torch.arange(SPOKES, device=device) + 0.5) * (2 * math.pi / SPOKES) - math.pi
    elevation = torch.linspace(-math.pi / 2, math.pi / 2, 181, device=device)
    ray = _directions(azimuth[:, None], elevation)  # [SPOKES, 181, 3]
    reach = 1 / (ray / torch.tensor((0.080, 0.10, 0.098), device=device)).norm(dim=-1, keepdim=True)  # of a rough head
    place = ray * reach + torch.tensor(_CENTRE, device=device)
    bare = hairline(place.view(-1, 3), model).view(SPOKES, -1) < -_BELOW
    lowest = torch.where(bare, elevation, -math.pi / 2).amax(1)
    share = torch.linspace(0.03, 1, RINGS, device=device)[:, None]
    return _directions(azimuth.expand(RINGS, -1), math.pi / 2 + (lowest - math.pi / 2) * share).reshape(-1, 3)


def _table_directions(device: torch.device) -> Tensor:
    azimuth = torch.arange(_COLUMNS, device=device) * (2 * math.pi / _COLUMNS) - math.pi
    elevation = torch.linspace(_LOW_DEG, _HIGH_DEG, _ROWS, device=device).deg2rad()
    return _directions(azimuth.expand(_ROWS, -1), elevation[:, None].expand(-1, _COLUMNS)).reshape(-1, 3)


def _spread_roots(model: HeadModel, skin: Tensor) -> tuple[Tensor, Tensor]:
    """``CARDS`` places on the scalp, each as far as can be from those before it, denser towards the face."""
    count = 4000
    device = model.template.device
    number = torch.arange(count, device=device)
    up = 1 - (number + 0.5) * (1.75 / count)
    directions = _directions(number * 2.399963 % (2 * math.pi), up.asin())  # Fibonacci's sphere
    corners, weights = _cast(model, skin, directions, nearest=True)
    places = (model.template[corners] * weights[..., None]).sum(1)
    usable = (hairline(places, model) > 0.002) & (weights.sum(-1) > 0.5)
    density = 1 + 0.35 * (places[:, 2] / 0.05).clamp(-1, 1)
    gap = torch.where(usable, 1.0, 0.0)
    chosen = []
    for _ in range(CARDS):
        chosen.append((gap * density).argmax())
        gap = torch.minimum(gap, (places - places[chosen[-1]]).norm(dim=-1))
    index = torch.stack(chosen)
    return corners[index], weights[index]


@dataclass(frozen=True)
class Body:
    """What hair rests on: cap and roots [B, P, 3]; table [B, 1, _ROWS, _COLUMNS + 1] of the head's radius round the
    centre; middle [B, 1, 3] and half axes [B, 1, 3] of the skull; window [B, 3]: middle's y, half width and half
    height of the face; neck [4] as in `Scalp`.
    """

    cap: Tensor
    roots: Tensor
    table: Tensor
    middle: Tensor
    axes: Tensor
    window: Tensor
    neck: Tensor

    def up(self, points: Tensor) -> Tensor:
        """Directions away from the skull's middle, of an ellipsoid; unit [B, N, 3]."""
        return functional.normalize((points - self.middle) / self.axes**2, dim=-1)

    def radius(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """From the centre, the head's and the points' own [B, N, 1], and the points relative to it."""
        x, y, z = (arm := points - points.new_tensor(_CENTRE)).unbind(-1)
        own = arm.norm(dim=-1).clamp_min(1e-4)
        column = torch.atan2(x, z) / math.pi
        row = ((y / own).clamp(-1, 1).asin().rad2deg() - _LOW_DEG) * (2 / (_HIGH_DEG - _LOW_DEG)) - 1
        grid = torch.stack([column, row], -1)[:, None]
        found = functional.grid_sample(self.table, grid, padding_mode="border", align_corners=True)
        return found[:, 0, 0, :, None], own[..., None], arm

    def outside(self, points: Tensor, clearance: Tensor, hold: Tensor) -> Tensor:
        """Points [B, N, 3] moved out of head, neck and shoulders by at least ``clearance`` [B, N, 1]; those
        farther from the upper head are drawn to it by a share ``hold`` [B, 1, 1]."""
        head, own, arm = self.radius(points)
        wanted = head + clearance
        drawn = hold * ((points[..., 1:2] + 0.02) / 0.05).clamp(0, 1)
        points = points + arm * ((wanted - own) * torch.where(own < wanted, 1.0, drawn) / own)
        return _off_shoulders(self._off_neck(points, clearance), clearance)

    def _off_neck(self, points: Tensor, clearance: Tensor) -> Tensor:
        x, z, half_x, half_z = self.neck
        flat = torch.stack([points[..., 0] - x, torch.zeros_like(points[..., 0]), points[..., 2] - z], -1)
        scale = torch.stack([half_x, torch.ones_like(half_x), half_z])
        depth = (flat / (scale + clearance)).norm(dim=-1, keepdim=True).clamp_min(0.05)
        below = ((-0.05 - points[..., 1:2]) / 0.03).clamp(0, 1)
        return points + flat * (1 / depth - 1).clamp_min(0) * below

    def beside_face(self, points: Tensor, free: Tensor, hidden: Tensor) -> Tensor:
        """Points moved out of the ellipse of the face as seen from the front, where ``hidden`` [B, N, 1] is 0."""
        middle, wide, high = self.window[:, None].unbind(-1)
        x, y = points[..., 0], points[..., 1] - middle
        inside = ((x / (wide * free)) ** 2 + (y / high) ** 2).sqrt().clamp_min(0.05)
        grow = (1 / inside - 1).clamp(0, 1.5) * (points[..., 2] / 0.02).clamp(0, 1) * (1 - hidden[..., 0])
        return torch.stack([x * (1 + grow), y * (1 + grow) + middle, points[..., 2]], -1)


def _off_shoulders(points: Tensor, clearance: Tensor) -> Tensor:
    """An average trunk, an ellipsoid."""
    middle = points.new_tensor((0.0, -0.37, -0.02))
    arm = points - middle
    depth = (arm / (points.new_tensor((0.23, 0.17, 0.11)) + clearance)).norm(dim=-1, keepdim=True).clamp_min(0.1)
    return points + arm * (1 / depth - 1).clamp_min(0)


def body_of(model: HeadModel, scalp: Scalp, vertices: Tensor, draws: Draws) -> Body:
    """What hair must stay outside of, on heads ``vertices`` [B, V, 3] (metres, head space)."""
    cap, roots, table = scalp.places(vertices)
    radius = (table - table.new_tensor(_CENTRE)).norm(dim=-1).view(-1, 1, _ROWS, _COLUMNS)
    low, high = cap.amin(1, keepdim=True), cap.amax(1, keepdim=True)
    middle = (low + high) / 2
    middle[..., 1] = 0.01
    axes = torch.maximum(high - middle, middle - low)
    marks = vertices[:, model.landmarks]
    brows, chin = marks[:, [19, 24], 1].mean(1), marks[:, 8, 1]
    top, bottom = brows + 0.052, chin - 0.015
    half_width = (marks[:, 15, 0] - marks[:, 1, 0]) / 2
    window = torch.stack([(top + bottom) / 2, half_width, (top - bottom) / 2], -1)
    return Body(cap, roots, torch.cat([radius, radius[..., :1]], -1), middle, axes, window, scalp.neck)


def noise_at(points: Tensor, wavelength: float, draws: Draws, name: str) -> Tensor:
    """Noise at points [B, N, 3], other for each sample, [B, N, 4]."""
    count = points.shape[1]
    offset = draws.uniform(name, 3).repeat_interleave(count, 0)
    return noise(points.reshape(-1, 3), wavelength, offset).view(len(points), count, -1)
