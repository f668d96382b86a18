"""What lies behind a head: studio walls, rooms and streets out of focus, or the user's own pictures."""

import math
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.io import ImageReadMode, decode_image

from casfne.capture.draws import Draws
from casfne.capture.noise import layered, noise
from casfne.capture.wear.fabrics import rgb
from casfne.capture.wear.meshes import ramp
from casfne.errors import InputError

PHOTOGRAPHS = 0.6  # share of pictures whose background is one of the user's, if there are any
_STUDIO, _WALL, _ROOM, _OUTSIDE, _LIGHTS, _DARK, _BRIGHT = range(7)
_SHARES = (0.2, 0.16, 0.22, 0.17, 0.07, 0.09, 0.09)
_RECTANGLES, _DISCS = 10, 12
_REDUCED = 3  # drawn that many times smaller: what lies behind the focus has no finer detail
_SIGMA = (0.9, 9.0)  # pixels of blur at 256 pixels a side
_DEEP_SIGMA = 2.2  # the least for scenes with depth
_KERNEL = 17  # taps at the reduced size
_SUFFIXES = (".jpg", ".jpeg", ".png")
_LINEAR = 2.2  # a pixel's power of sRGB, near enough for a background


def background(draws: Draws, height: int, width: int, photographs: Tensor | None = None) -> Tensor:
    """Pictures of what is behind the head, linear RGB float32 [B, 3, height, width], 0..8 (1: white).

    ``photographs``: uint8 [K, 3, h, w] sRGB from `read_photographs`; then ``PHOTOGRAPHS`` of the samples show one.
    """
    own = draws.sub("background")
    small = (-(-height // _REDUCED), -(-width // _REDUCED))
    scene = _scene(own, *small)
    if photographs is not None:
        if photographs.ndim != 4 or photographs.shape[1] != 3 or photographs.dtype != torch.uint8:
            raise ValueError(f"expected uint8 [K, 3, h, w], got {photographs.dtype} {list(photographs.shape)}")
        chosen = own.chance("photograph", PHOTOGRAPHS)[:, None, None, None]
        scene = torch.where(chosen, _photograph(own, photographs, *small), scene)
    kind = own.choice("kind", _SHARES)
    deep = (kind == _ROOM) | (kind == _OUTSIDE) | (kind == _LIGHTS)  # farther away than a wall
    least = torch.where(deep, _DEEP_SIGMA, _SIGMA[0])
    sigma = least * (_SIGMA[1] / least) ** own.uniform("blur") * height / 256 / _REDUCED
    blurred = _blurred(scene, sigma)
    return functional.interpolate(blurred, (height, width), mode="bilinear", align_corners=False)


def _scene(own: Draws, height: int, width: int) -> Tensor:
    """A made-up scene in focus, linear [B, 3, height, width]."""
    kind = own.choice("kind", _SHARES)
    y, x = torch.meshgrid(
        torch.linspace(1, -1, height, device=own.device),
        torch.linspace(-1, 1, width, device=own.device) * (width / height),
        indexing="ij",
    )
    x, y = _rolled(own, x.flatten(), y.flatten())  # [B, P]
    rooms = (kind == _ROOM).float()
    outside = (kind == _OUTSIDE).float()
    picture = _wall(own, kind, x, y)
    picture = _landscape(own, picture, x, y, outside)
    picture = _rectangles(own, picture, x, y, (rooms + 0.35 * outside).clamp_max(1))
    picture = _discs(own, picture, x, y, ((kind == _LIGHTS) | (kind == _OUTSIDE) & own.chance("glints", 0.4)).float())
    picture = picture * _falloff(own, x, y)[..., None]
    return picture.clamp(0, 8).mT.reshape(-1, 3, height, width)


def _rolled(own: Draws, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    angle = (3 * own.normal("roll", 1)).deg2rad()
    return x * angle.cos() + y * angle.sin(), y * angle.cos() - x * angle.sin()


def _colour(own: Draws, name: str, low: float, high: float, saturation: float, *shape: int) -> Tensor:
    """Mostly dull colours, [B, *shape, 3]; warm and cool ones more often than green and purple."""
    pick, spread = own.uniform(f"{name} kind", *shape), own.normal(f"{name} hue", *shape)
    hue = torch.where(pick < 0.5, 0.09 + 0.05 * spread, torch.where(pick < 0.8, 0.58 + 0.09 * spread, spread)) % 1
    vivid = saturation * own.uniform(f"{name} saturation", *shape) ** 1.5
    return rgb(hue, vivid, own.log_between(f"{name} value", low, high, *shape))


def _wall(own: Draws, kind: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Plain paper, plaster, bricks, panels; black; white, [B, P, 3]."""
    first = _colour(own, "wall", 0.05, 0.75, 0.6)
    black, white = _colour(own, "black", 0.001, 0.02, 0.5), _colour(own, "white", 0.7, 1.05, 0.08)
    first = torch.where((kind == _DARK)[:, None], black, torch.where((kind == _BRIGHT)[:, None], white, first))
    first = torch.where((kind == _LIGHTS)[:, None], _colour(own, "night", 0.003, 0.08, 0.7), first)
    turn = own.between("gradient", 0, 2 * math.pi, 1)
    slope = own.normal("slope", 1) * torch.where((kind == _DARK) | (kind == _BRIGHT), 0.1, 0.35)[:, None]
    shade = torch.exp(slope * (x * turn.cos() + y * turn.sin()))
    rough = torch.tensor([0.025, 0.1, 0.035, 0.05, 0.15, 0.06, 0.015], device=x.device)[kind][:, None]
    where = torch.stack([x, y * own.between("stretch", 0.3, 1.5, 1), torch.zeros_like(x)], -1).flatten(0, 1)
    offset = own.uniform("grain", 3)[:, None].expand(-1, x.shape[1], -1).flatten(0, 1)
    wave = own.log_between("wave", 0.25, 2.0, 1).expand_as(x).reshape(-1, 1)
    grain = noise(where, wave, offset)[:, :3].view(*x.shape, 3)
    spot = rough[..., None] * (grain[..., :1] + 0.25 * grain)
    pattern = torch.where((kind == _WALL)[:, None], _pattern(own, x, y), 1.0)
    return first[:, None] * (shade * pattern)[..., None] * (1 + spot).clamp_min(0.1)


def _pattern(own: Draws, x: Tensor, y: Tensor) -> Tensor:
    """Brightness of bricks, boards, blinds or nothing, about 1."""
    period = own.log_between("period", 0.08, 0.5, 1)
    kind = own.choice("pattern", (0.3, 0.2, 0.2, 0.3))[:, None]
    row = (y / period).floor()
    brick_x = (x / (2.6 * period) + 0.5 * (row % 2)) % 1
    brick_y = (y / period) % 1
    joint = torch.maximum((brick_x - 0.5).abs() * 2.6 - 0.8, (brick_y - 0.5).abs() - 0.0).clamp_min(0)
    tone = ((row * 12.9898 + (x / (2.6 * period) + 0.5 * (row % 2)).floor() * 78.233).sin() * 43758.5453) % 1
    strength = own.between("strength", -0.7, 0.5, 1)
    bricks = (0.8 + 0.4 * tone) * (1 + strength * ramp(joint, 0.42, 0.47))
    upright = (x / period) % 1
    boards = (0.9 + 0.2 * (((x / period).floor() * 37.7).sin())) * (1 - 0.5 * ramp((upright - 0.5).abs(), 0.46, 0.49))
    blinds = 1 + 0.5 * strength * (2 * math.pi * y / period).sin()
    return torch.where(kind == 0, bricks, torch.where(kind == 1, boards, torch.where(kind == 2, blinds, 1.0)))


def _landscape(own: Draws, picture: Tensor, x: Tensor, y: Tensor, there: Tensor) -> Tensor:
    """Sky, foliage or houses, and ground, over ``picture`` where ``there`` [B] is 1."""
    horizon = own.between("horizon", -0.5, 0.4, 1)
    sky = _colour(own, "sky", 0.5, 1.6, 0.15)
    blue = rgb(
        own.between("blue", 0.55, 0.62), own.between("blue depth", 0.1, 0.6), own.between("blue value", 0.5, 1.3)
    )
    sky = torch.where(own.chance("blue sky", 0.6)[:, None], blue, sky)
    ground = _colour(own, "ground", 0.06, 0.4, 0.5)
    leaf = rgb(
        own.between("leaf hue", 0.17, 0.32), own.between("leaf depth", 0.35, 0.8), own.log_between("leaf", 0.03, 0.25)
    )
    house = _colour(own, "house", 0.06, 0.5, 0.5)
    far = torch.where(own.chance("foliage", 0.65)[:, None], leaf, house)
    where = torch.stack([x, y, torch.full_like(x, 0.3)], -1).flatten(0, 1)
    offset = own.uniform("tree", 3)[:, None].expand(-1, x.shape[1], -1).flatten(0, 1)
    lump = layered(where, own.log_between("lump", 0.12, 0.5, 1).expand_as(x).reshape(-1, 1), offset, 3, 0.7).view(
        *x.shape, 4
    )
    line = horizon + own.between("tall", 0.1, 1.2, 1) + 0.12 * lump[..., 0]
    lit = torch.exp(0.55 * lump[..., 1])[..., None]
    above = ramp(y, line - 0.03, line + 0.03)[..., None]
    below = ramp(y, horizon - 0.02, horizon + 0.02)[..., None]
    gaps = (ramp(lump[..., 2], 1.1, 1.5) * own.between("gaps", 0, 1, 1))[..., None]
    trees = far[:, None] * lit * (1 - gaps) + sky[:, None] * gaps
    scene = sky[:, None] * above + trees * (1 - above)
    scene = ground[:, None] * (1 + 0.15 * lump[..., 3:]) * (1 - below) + scene * below
    return torch.lerp(picture, scene, there[:, None, None])


def _rectangles(own: Draws, picture: Tensor, x: Tensor, y: Tensor, there: Tensor) -> Tensor:
    """Doors, windows, shelves, frames and their shadows: upright boxes over ``picture``, as many as drawn."""
    many, d = _RECTANGLES, own.sub("rectangles")
    shown = (torch.arange(many, device=x.device) < d.between("count", 1, many + 1, 1)) * there[:, None]
    at_x, at_y = d.between("x", -1.2, 1.2, many), d.between("y", -1.1, 1.1, many)
    wide, high = d.log_between("wide", 0.06, 0.8, many), d.log_between("high", 0.06, 0.9, many)
    window = d.uniform("window", many) < 0.2
    light, dull = _colour(d, "light", 0.8, 4.0, 0.3, many), _colour(d, "colour", 0.01, 0.7, 0.8, many)
    colour = torch.where(window[..., None], light, dull)
    slope = d.between("across", -0.4, 0.4, many) / wide.clamp_min(0.2)
    for i in range(many):
        one = slice(i, i + 1)
        apart_x = x - at_x[:, one]
        away = torch.maximum(apart_x.abs() - wide[:, one], (y - at_y[:, one]).abs() - high[:, one])
        share = torch.sigmoid(-60 * away) * shown[:, one]
        bars = window[:, one] & ((apart_x.abs() - 0.5 * wide[:, one]).abs() < 0.03)
        lit = torch.where(bars, 0.25, (1 + slope[:, one] * apart_x).clamp(0.3, 2))
        picture = torch.lerp(picture, colour[:, i, None] * lit[..., None], share[..., None])
    return picture


def _discs(own: Draws, picture: Tensor, x: Tensor, y: Tensor, there: Tensor) -> Tensor:
    """Lights out of focus, as a lens shows them: discs with a slightly brighter edge."""
    many, d = _DISCS, own.sub("discs")
    at_x, at_y = d.between("x", -1.1, 1.1, many), d.between("y", -0.9, 1.1, many)
    radius = d.log_between("size", 0.05, 0.22, 1) * d.between("radius", 0.8, 1.2, many)
    colour = _colour(d, "colour", 0.15, 2.5, 0.9, many) * there[:, None, None]
    for i in range(many):
        one = slice(i, i + 1)
        square = ((x - at_x[:, one]) ** 2 + (y - at_y[:, one]) ** 2) / radius[:, one] ** 2
        light = ramp(-square, -1.12, -0.88) * (0.8 + 0.3 * square**2)
        picture = picture + light[..., None] * colour[:, i, None]
    return picture


def _falloff(own: Draws, x: Tensor, y: Tensor) -> Tensor:
    """A lamp's pool on the wall, or darker corners."""
    at_x, at_y = 0.6 * own.normal("pool x", 1), 0.5 * own.normal("pool y", 1)
    strength = own.between("pool", 0.0, 0.8, 1) * own.chance("pooled", 0.5)[:, None]
    square = (x - at_x) ** 2 + (y - at_y) ** 2
    return 1 - strength + strength * torch.exp(-square / own.between("pool size", 0.5, 2.0, 1) ** 2)


def _blurred(picture: Tensor, sigma: Tensor) -> Tensor:
    """Each picture [B, 3, H, W] through a Gaussian of its own ``sigma`` [B] pixels."""
    taps = torch.arange(_KERNEL, device=picture.device) - _KERNEL // 2
    kernel = torch.exp(-0.5 * (taps / sigma[:, None].clamp_min(0.1)) ** 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(3, 0)[:, None]
    count, _, height, width = picture.shape
    half = _KERNEL // 2
    planes = functional.pad(picture.reshape(1, 3 * count, height, width), (half, half, half, half), mode="replicate")
    planes = functional.conv2d(planes, kernel[:, :, None], groups=3 * count)
    return functional.conv2d(planes, kernel[..., None], groups=3 * count).view_as(picture)


def _photograph(own: Draws, photographs: Tensor, height: int, width: int) -> Tensor:
    """A part of one of the user's pictures, mirrored half of the time, linear [B, 3, height, width]."""
    number = (own.uniform("which") * len(photographs)).long().clamp_max(len(photographs) - 1)
    share = own.between("crop", 0.35, 1.0)
    mirrored = torch.where(own.chance("mirrored", 0.5), -1.0, 1.0)
    aspect = (width / photographs.shape[-1]) / (height / photographs.shape[-2])
    wide, high = share * min(aspect, 1.0), share * min(1 / aspect, 1.0)
    at = own.between("crop at", -1.0, 1.0, 2)
    x = torch.linspace(-1, 1, width, device=own.device) * wide[:, None] * mirrored[:, None] + (
        at[:, :1] * (1 - wide[:, None])
    )
    y = torch.linspace(-1, 1, height, device=own.device) * high[:, None] + (at[:, 1:] * (1 - high[:, None]))
    where = torch.stack(torch.broadcast_tensors(x[:, None], y[:, :, None]), -1)
    picture = functional.grid_sample(
        photographs[number].float() / 255, where, align_corners=False, padding_mode="border"
    )
    return picture**_LINEAR * own.log_between("exposure", 0.6, 1.6)[:, None, None, None]


def read_photographs(folder: Path, size: int = 512) -> Tensor:
    """All JPEG and PNG files in ``folder``, each the largest square of its middle: uint8 [K, 3, size, size], by name.

    InputError: no such folder, no picture in it, or a file that cannot be read, which it names.
    """
    paths = sorted(p for p in Path(folder).glob("*") if p.suffix.lower() in _SUFFIXES)
    if not paths:
        raise InputError(f"{folder}: no pictures ({', '.join(_SUFFIXES)}) for backgrounds")
    return torch.stack([_read(path, size) for path in paths])


def _read(path: Path, size: int) -> Tensor:
    try:
        picture = decode_image(str(path), ImageReadMode.RGB, apply_exif_orientation=True)
    except (RuntimeError, OSError) as error:
        raise InputError(f"{path}: not a readable picture: {error}") from error
    side = min(picture.shape[1:])
    top, left = ((n - side) // 2 for n in picture.shape[1:])
    scale = 255 / torch.iinfo(picture.dtype).max  # PNGs may have 16 bits
    square = picture[None, :, top : top + side, left : left + side].float() * scale
    return functional.interpolate(square, (size, size), mode="bilinear", antialias=True)[0].round().clamp(0, 255).byte()
