"""What may happen to a photograph of a face: batched augmentation, wherever the batch lies.

Torch alone: a bare machine with a GPU augments as this one does. Here is what moves or hides the truth, or ends it;
`camera` has what changes pixels alone, and `draws` the numbers that both read.
Frame as everywhere (x right, y up, z to the camera); row 0 is the top of the picture. Angles turn
counter-clockwise as seen in the picture; lengths in the picture are shares of half its side, from its middle.
"""

import math
from collections.abc import Collection
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from casfne.errors import InputError
from casfne.training.camera import STEPS
from casfne.training.draws import CELLS, TEXTURE, Draws, draw, on_touched

Batch = dict[str, Tensor]

KINDS = ("crop", "roll", "flip", "colour", "tone", "grey", "noise", "blur", "jpeg", "occlude", "cut")
_GEOMETRIC = ("crop", "roll", "flip")
_CHANNELS = {"image": 3, "normal": 3, "mask": 1, "trust": 1}

_SCALE = (0.92, 1.25)  # a tight crop hides background, a loose one leaves the face fewer pixels
_SHIFT = 0.16  # of half the side: 8 % of the side
_ROLL_DEG, _MAX_ROLL_DEG = 10.0, 30.0  # standard deviation; beyond the largest, detectors straighten the face
_OCCLUDER = (0.12, 0.5)  # half axes, of half the side: from a thumb to a raised arm
_OCCLUDER_CENTRE = 0.8  # largest distance from the middle along each axis, of half the side
_EDGE = (1.0, 4.0)  # pixels over which an occluder's edge fades across its narrow side: it is not in focus
_MARGIN = (0.4, 1.4)  # of half the side, from the middle to where the photograph ends; beyond 1 it does not


class Pose(NamedTuple):
    """How a picture moves, in this order: mirrored (bool [B]), turned (degrees [B]), scaled ([B]), and its middle
    shifted by (right, up) ([B, 2], of half its side).
    """

    mirrored: Tensor
    roll_deg: Tensor
    scale: Tensor
    shift: Tensor


def check_kinds(kinds: Collection[str]) -> None:
    """InputError that names the first unknown kind and the known ones."""
    for kind in kinds:
        if kind not in KINDS:
            raise InputError(f"train augment {kind!r}: expected one of {', '.join(KINDS)}")


def augment(batch: Batch, seeds: Tensor, kinds: Collection[str]) -> Batch:
    """The batch as other photographs of the same faces.

    image [B, 3, S, S] sRGB in 0..1, normal [B, 3, S, S], mask [B, 1, S, S] of 0 and 1, trust [B, 1, S, S] in 0..1,
    all float32; so is what comes back, normals unit on the mask. Sample i follows from seeds[i] (int64 [B], on the
    CPU) and its own content: not from its neighbours, its place, nor (noise and rounding apart) the device.
    Normals, mask and trust change by crop, roll, flip, occlude and cut alone; what nothing changed is the same tensor.
    """
    check_kinds(kinds)
    _check(batch)
    if seeds.dtype != torch.int64 or seeds.shape != batch["image"].shape[:1]:
        raise ValueError(f"expected int64 seeds [{len(batch['image'])}], got {seeds.dtype} {list(seeds.shape)}")
    # bfloat16 would ruin pictures: half precision is for networks
    with torch.no_grad(), torch.autocast(batch["image"].device.type, enabled=False):
        return _augment(batch, draw(seeds), kinds)


def resize_batch(batch: Batch, size: int) -> Batch:
    """The batch (as ``augment`` takes it) averaged down to ``size`` pixels; normals zero off the mask.

    Normals are averaged over the mask and made unit again; the mask is where it was whole.
    """
    _check(batch)
    if not 0 < size <= batch["image"].shape[-1]:
        raise ValueError(f"expected a size of at most the batch's {batch['image'].shape[-1]} pixels, got {size}")
    masked = {**batch, "normal": batch["normal"] * batch["mask"]}
    if size == batch["image"].shape[-1]:
        return masked
    small = {k: functional.interpolate(masked[k], (size, size), mode="area") for k in _CHANNELS}
    return {**batch, **_whole(small)}


def _check(batch: Batch) -> None:
    count, size = batch["image"].shape[0], batch["image"].shape[-1]
    for name, channels in _CHANNELS.items():
        expected, came = [count, channels, size, size], list(batch[name].shape)
        if came != expected:
            raise ValueError(f"{name}: expected [B, {channels}, S, S], here {expected}, got {came}")


def _augment(batch: Batch, draws: Draws, kinds: Collection[str]) -> Batch:
    done = dict(batch)
    if not set(kinds).isdisjoint(_GEOMETRIC):
        done.update(_move(done, pose(draws, kinds)))
    if "occlude" in kinds:
        done.update(_occlude(done, draws))
    for kind, step in STEPS.items():
        if kind in kinds:
            done["image"] = on_touched(done["image"], draws, kind, step)
    if "cut" in kinds:
        done.update(_cut(done, draws))
    return done


# --- geometry ---


def pose(draws: Draws, kinds: Collection[str]) -> Pose:
    """What the draws (their table on the CPU) say of ``kinds``; those that are not asked for move nothing."""
    crop, roll, flip = (float(kind in kinds) for kind in _GEOMETRIC)
    turned = torch.special.ndtri(draws["roll"]).mul(_ROLL_DEG).clamp(-_MAX_ROLL_DEG, _MAX_ROLL_DEG)  # normal, cut off
    shift = torch.cat([draws.between(c, -_SHIFT, _SHIFT) for c in ("right", "up")], 1)
    return Pose(
        mirrored=draws.touched("flip") & bool(flip),
        roll_deg=turned.flatten() * roll,
        scale=draws.log_between("scale", *_SCALE).flatten() ** crop,
        shift=shift.flatten(1) * crop,
    )


def _move(batch: Batch, posed: Pose) -> Batch:
    """All four resampled once: the picture continues beyond its edges, the truth does not."""
    image = batch["image"]
    grid = functional.affine_grid(_backwards(posed).to(image.device), list(image.shape), align_corners=False)
    sample = partial(functional.grid_sample, grid=grid, mode="bilinear", align_corners=False)
    truth = torch.cat([batch["normal"] * batch["mask"], batch["mask"], batch["trust"]], 1)
    normal, mask, trust = sample(truth, padding_mode="zeros").split([3, 1, 1], 1)
    sideways = torch.einsum("bij,bjhw->bihw", _linear(posed).to(image.device), normal[:, :2])
    normal = torch.cat([sideways, normal[:, 2:]], 1)
    moved = sample(image, padding_mode="border").clamp(0, 1)
    return _whole({"image": moved, "normal": normal, "mask": mask, "trust": trust.clamp(0, 1)})


def _linear(posed: Pose) -> Tensor:
    """Mirror, then turn, in x right and y up; [B, 2, 2]. What happens to the picture happens to its normals."""
    angle = torch.deg2rad(posed.roll_deg)
    sign = 1 - 2 * posed.mirrored.to(angle.dtype)
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([sign * cos, -sin, sign * sin, cos], -1).view(-1, 2, 2)


def _backwards(posed: Pose) -> Tensor:
    """For each place of the moved picture the place that it shows, x right and y DOWN as torch has it; [B, 2, 3]."""
    inverse = _linear(posed).transpose(1, 2) / posed.scale.view(-1, 1, 1)  # orthogonal but for the scale
    matrix = torch.cat([inverse, -inverse @ posed.shift[..., None]], -1)
    return matrix * torch.tensor([[1.0, -1, 1], [-1, 1, -1]])


def _whole(resampled: Batch) -> Batch:
    """The mask where it is whole; normals unit there and zero elsewhere."""
    mask = (resampled["mask"] > 0.99).to(resampled["mask"].dtype)
    return {**resampled, "normal": unit(resampled["normal"]) * mask, "mask": mask}


def unit(vectors: Tensor) -> Tensor:
    """Vectors [B, 3, H, W] at length 1; zero stays zero."""
    length = vectors.square().sum(1, keepdim=True).sqrt()  # torch's norm is 20 times slower on a CPU
    return vectors / length.clamp_min(1e-6)


# --- in front of the face ---


def _occlude(batch: Batch, draws: Draws) -> Batch:
    """Something between face and camera; the truth under it is not what is seen, so it leaves mask and trust."""
    image = batch["image"]
    cover = on_touched(torch.zeros_like(batch["mask"]), draws, "occlude", lambda _, d: _opacity(d, image.shape[-1]))
    truth = {name: batch[name] * (cover == 0) for name in ("normal", "mask", "trust")}
    return {**truth, "image": on_touched(image, draws, "occlude", _paint)}


def _paint(image: Tensor, draws: Draws) -> Tensor:
    opacity = _opacity(draws, image.shape[-1])
    cells = torch.cat([draws[c] for c in TEXTURE], 1).view(-1, 3, CELLS, CELLS)
    contrast = draws["contrast"]
    colours = cells[..., :1, :1] * (1 - contrast) + cells * contrast
    texture = functional.interpolate(colours, image.shape[-2:], mode="bicubic", align_corners=False).clamp(0, 1)
    return torch.lerp(image, texture, opacity)


def _opacity(draws: Draws, size: int) -> Tensor:
    """0..1 [N, 1, S, S] of an ellipse or a rectangle, whose edge fades within itself."""
    place = (torch.arange(size, device=draws.table.device) + 0.5) * (2 / size) - 1
    dx = place - draws.between("place_x", -_OCCLUDER_CENTRE, _OCCLUDER_CENTRE)  # [N, 1, 1, S]
    dy = draws.between("place_y", -_OCCLUDER_CENTRE, _OCCLUDER_CENTRE) - place[:, None]  # [N, 1, S, 1]
    turn = draws["turn"] * math.pi
    a, b = draws.log_between("axis_a", *_OCCLUDER), draws.log_between("axis_b", *_OCCLUDER)
    u, v = (turn.cos() * dx + turn.sin() * dy) / a, (turn.cos() * dy - turn.sin() * dx) / b
    distance = torch.where(draws["shape"] < 0.5, (u * u + v * v).sqrt(), torch.maximum(u.abs(), v.abs()))
    inwards = (1 - distance) * torch.minimum(a, b) * (size / 2)  # pixels, across the narrow side
    return (inwards / draws.between("edge", *_EDGE)).clamp(0, 1)


# --- the photograph's edges ---


def _cut(batch: Batch, draws: Draws) -> Batch:
    """A photograph that ends within the crop: its border goes on as in `casfne.images.Crop.apply`, the truth ends."""
    whole = torch.ones_like(batch["mask"])
    inside = on_touched(whole, draws, "cut", lambda _, d: _inside(d, whole.shape[-1]))
    truth = {name: batch[name] * inside for name in ("normal", "mask", "trust")}
    return {**truth, "image": on_touched(batch["image"], draws, "cut", _continued)}


def _continued(image: Tensor, draws: Draws) -> Tensor:
    x, y = (nearest.expand_as(image) for nearest in _nearest(draws, image.shape[-1]))
    return image.gather(3, x).gather(2, y)


def _inside(draws: Draws, size: int) -> Tensor:
    """1 where the photograph is, 0 beyond; [N, 1, S, S]."""
    x, y = _nearest(draws, size)
    place = torch.arange(size, device=draws.table.device)
    return ((x == place) & (y == place[:, None])).float()


def _nearest(draws: Draws, size: int) -> tuple[Tensor, Tensor]:
    """The photograph's column nearest to each column, int64 [N, 1, 1, S], and row nearest to each row, [N, 1, S, 1]."""
    left, right, upper, lower = (
        (draws.between(end, *_MARGIN).clamp_max(1) * (size / 2)).round().long()
        for end in ("left_end", "right_end", "upper_end", "lower_end")
    )
    place, middle = torch.arange(size, device=draws.table.device), size // 2
    columns = torch.minimum(torch.maximum(place, middle - left), middle + right - 1)
    return columns, torch.minimum(torch.maximum(place[:, None], middle - upper), middle + lower - 1)
