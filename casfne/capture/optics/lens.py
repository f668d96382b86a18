"""From light to a picture: what a lens, a sensor, a camera's software and a file do to it. Batched, on any device.

Each step touches a share of the samples, and only those are computed. In this order: the lens (focus, glare, colour
fringes, vignette, motion), the sensor (balance, exposure, noise), the software (curve, colour, sharpening), the file
(fewer pixels, JPEG).
"""

import math
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from casfne.capture.draws import Draws
from casfne.capture.lighting.environment import black_body
from casfne.capture.optics.filters import gaussian, reduction, separable, shrunk_gaussian, softened
from casfne.capture.optics.jpeg import jpeg, luminance

# the share of samples that a step touches
_SHARES = {
    "focus": 0.4,
    "glare": 0.25,
    "fringes": 0.35,
    "vignette": 0.4,
    "motion": 0.08,
    "noise": 0.7,
    "sharpen": 0.35,
    "resample": 0.35,
    "jpeg": 0.6,
}
_REACH = (1.2, 7.0)  # blur of what is infinitely far, standard deviation in 256ths of the picture's side
_IN_FOCUS = 0.25  # the same unit: a smaller blur is none
_MIDDLE = 0.4  # of the strongest blur: the level between it and none
_GLARE_SIGMA, _GLARE = (5.0, 25.0), (0.02, 0.12)  # 256ths; share of the light that strays
_FRINGE = 0.002  # largest difference in magnification of red and blue from green
_VIGNETTE = (0.1, 0.6)  # tangent of the angle at which the picture's corner is seen
_TRAIL, _LONGEST = (1.5, 6.0), 9  # pixels of motion; side of its kernel
_BALANCE_KELVIN, _TINT = (5700.0, 7500.0), 0.025  # what is taken for white instead of 6500 K; deviation of green
_STOPS = (-0.45, 0.6)
_READ, _SHOT = (0.0005, 0.004), (0.003, 0.035)  # deviation at white 1: in the dark; of light 1
_DARK = 0.18  # mean below which a camera raises its gain
_LEVELS = 4096  # of the table of curves; the root of light indexes it
_BRIGHTEST = 4.0  # light beyond it is white by any curve
_KNEE = (0.45, 1.0)  # light from which highlights roll off; 1: they clip
_GAMMA, _CONTRAST, _FADED = (0.85, 1.2), (-0.25, 0.6), (0.0, 0.08)
_LINEAR_SHARE, _FADED_SHARE, _GREY_SHARE = 0.08, 0.12, 0.09  # linear: laboratories' cameras write light as it is
_SATURATION = (0.65, 1.3)
_SHARPEN = (0.2, 1.1)
_REDUCTION = (1.0, 4.0)
_QUALITY = (30.0, 98.0)

Step = Callable[..., Tensor]


def develop(linear: Tensor, depth: Tensor, draws: Draws) -> Tensor:
    """sRGB pictures [B, 3, H, W] in 0..1 of light [B, 3, H, W] (linear RGB; 1 is about white).

    depth [B, 1, H, W]: metres from the camera; what is not finite, or not above 0, is infinitely far.
    """
    b, c, h, w = linear.shape
    if c != 3 or depth.shape != (b, 1, h, w) or len(draws) != b:
        raise ValueError(
            f"expected [B, 3, H, W], [B, 1, H, W] and B draws, got {list(linear.shape)}, "
            f"{list(depth.shape)} and {len(draws)}"
        )
    light = _on_some(linear.clamp_min(0), draws, "focus", _focus, depth)
    light = _in_turn(light, draws, {"glare": _glare, "fringes": _fringes, "vignette": _vignette, "motion": _motion})
    light = _on_some(light * _exposure(draws), draws, "noise", _noise)
    image = _colour(_curved(light, draws), draws)
    image = _in_turn(image, draws, {"sharpen": _sharpen, "resample": _resample, "jpeg": _jpeg})
    return image.clamp(0, 1)


def _in_turn(image: Tensor, draws: Draws, steps: dict[str, Step]) -> Tensor:
    for name, step in steps.items():
        image = _on_some(image, draws, name, step)
    return image


def _on_some(image: Tensor, draws: Draws, name: str, step: Step, *others: Tensor) -> Tensor:
    """``image`` after ``step`` on the samples that ``name`` touches, the others as they were."""
    index = draws.chance(name, _SHARES[name]).nonzero()[:, 0]
    if len(index) == 0:
        return image
    own = draws.of(index).sub(name)
    return image.index_copy(0, index, step(image[index], own, *(o[index] for o in others)))


def _each(values: Tensor) -> Tensor:
    """[N] as [N, 1, 1, 1]."""
    return values.view(-1, 1, 1, 1)


# --- the lens ---


def _focus(light: Tensor, draws: Draws, depth: Tensor) -> Tensor:
    """Blur that grows with the difference of 1 / depth from that in the picture's middle.

    Two blurred pictures and the sharp one are mixed; what is in focus does not spill into the blurred ones.
    """
    near = torch.where(depth.isfinite() & (depth > 0), 1 / depth, 0.0)
    focus = _each(_middle(near))
    reach = draws.log_between("reach", *_REACH)
    blur = (near - focus).abs() / focus.clamp_min(1e-6) * _each(reach)
    amount = ((blur - _IN_FOCUS).clamp_min(0) / _each(reach)).clamp(0, 1)
    loose = amount.clamp_min(1e-3)
    weighted = torch.cat([light * loose, loose], 1)
    middle, most = _two_blurred(weighted, reach * (light.shape[-1] / 256))
    middle, most = (m[:, :3] / m[:, 3:].clamp_min(1e-6) for m in (middle, most))
    some = torch.lerp(light, middle, (amount / _MIDDLE).clamp(0, 1))
    return torch.lerp(some, most, ((amount - _MIDDLE) / (1 - _MIDDLE)).clamp(0, 1))


def _middle(values: Tensor) -> Tensor:
    """Median [N] of the middle quarter of maps [N, 1, H, W]."""
    h, w = values.shape[-2:]
    return values[..., h // 4 : h - h // 4, w // 4 : w - w // 4].flatten(1).median(1).values


def _two_blurred(image: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """Through Gaussians of `_MIDDLE` and of 1 times ``sigma`` [N] pixels, at half the size and enlarged again."""
    small = functional.avg_pool2d(image, 2, ceil_mode=True)
    h, w = small.shape[-2:]
    results = []
    for share in (_MIDDLE, 1.0):
        # halving and enlarging blur by half a pixel's square themselves
        inner = ((sigma * share).square() - 0.5).clamp_min(0.1).sqrt().view(-1, 1, 1) / 2
        soft = separable(small, gaussian(inner, h), gaussian(inner, w))
        results.append(functional.interpolate(soft, image.shape[-2:], mode="bilinear"))
    return results[0], results[1]


def _glare(light: Tensor, draws: Draws) -> Tensor:
    """Some of the light strays in the lens."""
    h, w = light.shape[-2:]
    sigma = draws.log_between("sigma", *_GLARE_SIGMA).view(-1, 1, 1) * (w / 256)
    (down, up), (left, right) = shrunk_gaussian(sigma, h, h // 4), shrunk_gaussian(sigma, w, w // 4)
    strayed = separable(separable(light, down, left), up, right)
    return torch.lerp(light, strayed, _each(draws.log_between("share", *_GLARE)))


def _fringes(light: Tensor, draws: Draws) -> Tensor:
    """Red and blue magnified a little otherwise than green, to first order: at most a quarter of a pixel in 256."""
    h, w = light.shape[-2:]
    stretch = draws.between("stretch", -_FRINGE, _FRINGE, 3).view(-1, 3, 1, 1)
    stretch = stretch * torch.tensor([1.0, 0, 1], device=light.device).view(3, 1, 1)
    padded = functional.pad(light, (1, 1, 1, 1), mode="replicate")
    across = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) * (_offsets(w, light) / 2)
    along = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) * (_offsets(h, light)[:, None] / 2)
    return (light - stretch * (across + along)).clamp_min(0)


def _offsets(size: int, like: Tensor) -> Tensor:
    """Pixels from the middle, [size]."""
    return torch.arange(size, device=like.device) - (size - 1) / 2


def _vignette(light: Tensor, draws: Draws) -> Tensor:
    """The fourth power of the cosine of the angle from the axis."""
    h, w = light.shape[-2:]
    x, y = _offsets(w, light) / (w / 2), _offsets(h, light)[:, None] / (h / 2)
    squared = (x * x + y * y) / 2  # 1 in the corners
    return light / (1 + squared * _each(draws.between("corner", *_VIGNETTE)).square()).square()


def _motion(light: Tensor, draws: Draws) -> Tensor:
    """Smeared along a short line."""
    n, c, h, w = light.shape
    kernel = _line(draws.between("trail", *_TRAIL), draws.uniform("turn") * math.pi)
    padded = functional.pad(light, (_LONGEST // 2,) * 4, mode="replicate")
    return functional.conv2d(
        padded.view(1, n * c, *padded.shape[2:]), kernel.repeat_interleave(c, 0), groups=n * c
    ).view(n, c, h, w)


def _line(length: Tensor, turn: Tensor) -> Tensor:
    """Kernels [N, 1, K, K] of sum 1: lines of ``length`` [N] pixels, one wide with soft edges, at angles [N]."""
    offset = _offsets(_LONGEST, length)
    cos, sin = turn.cos().view(-1, 1, 1), turn.sin().view(-1, 1, 1)
    along, across = cos * offset + sin * offset[:, None], cos * offset[:, None] - sin * offset
    inside = (length.view(-1, 1, 1) / 2 + 0.5 - along.abs()).clamp(0, 1) * (1 - across.abs()).clamp_min(0)
    return (inside / inside.sum((1, 2), keepdim=True))[:, None]


# --- the sensor ---


def _exposure(draws: Draws) -> Tensor:
    """Gains [B, 3, 1, 1]: a little too bright or dark, and another white."""
    white = black_body(draws.log_between("balance", *_BALANCE_KELVIN)) / black_body(torch.tensor(6500.0)).to(
        draws.device
    )
    tint = torch.exp(draws.normal("tint").clamp(-3, 3) * _TINT)
    gains = torch.stack([white[:, 0], white[:, 1] * tint, white[:, 2]], 1)
    return (gains * 2 ** draws.between("stops", *_STOPS)[:, None])[..., None, None]


def _noise(light: Tensor, draws: Draws) -> Tensor:
    """The sensor's own, and that of light, whose variance grows with it; more in dark pictures, blotchy in some."""
    h, w = light.shape[-2:]
    gain = (_DARK / light.mean((1, 2, 3)).clamp_min(0.02)).clamp(0.7, 2).sqrt()
    read, shot = (_each(draws.log_between(name, *r) * gain) for name, r in (("read", _READ), ("shot", _SHOT)))
    deviation = (read.square() + shot.square() * light.clamp_max(_BRIGHTEST)).sqrt()
    return (light + deviation * _grain(_pixel_noise(draws, h + 1, w + 1), draws)).clamp_min(0)


def _grain(noise: Tensor, draws: Draws) -> Tensor:
    """Noise [N, 3, H + 1, W + 1] mixed with its neighbours and other channels, [N, 3, H, W], of deviation 1."""
    mixed = _each(draws.uniform("grain").square())  # 0: each pixel its own, as no filter between sensor and picture
    scale = (1 + mixed.square()).rsqrt()
    noise = (noise[..., 1:] + mixed * noise[..., :-1]) * scale
    noise = (noise[..., 1:, :] + mixed * noise[..., :-1, :]) * scale
    grey = _each(draws.uniform("grey"))  # software takes more of the colour's noise away
    return (noise * (1 - grey) + grey * noise[:, :1]) * _grey_scale(grey)


def _grey_scale(grey: Tensor) -> Tensor:
    """What brings red, which is the shared noise, and the others back to deviation 1; [N, 3, 1, 1]."""
    others = ((1 - grey).square() + grey.square()).rsqrt()
    return torch.cat([torch.ones_like(grey), others, others], 1)


def _pixel_noise(draws: Draws, height: int, width: int) -> Tensor:
    """Standard normal numbers [N, 3, H, W], four of 13 bits from each draw: a quarter of the time."""
    quarter = -(-height * width * 3 // 4)
    bits = draws.bits("noise", quarter)
    table = _quantiles().to(bits.device)
    parts = torch.cat([table.take((bits >> shift) & 8191) for shift in (0, 13, 26, 39)], 1)
    return parts[:, : 3 * height * width].view(-1, 3, height, width)


@cache
def _quantiles() -> Tensor:
    """8192 equally likely standard normal numbers, [8192] on the CPU."""
    values = torch.special.ndtri((torch.arange(8192, dtype=torch.float64) + 0.5) / 8192)
    return (values / values.std(correction=0)).float()


# --- the software ---


def _curved(light: Tensor, draws: Draws) -> Tensor:
    """Values in 0..1 of light by each sample's curve, from a table of it."""
    root = torch.arange(_LEVELS, device=light.device) * (_BRIGHTEST**0.5 / (_LEVELS - 1))
    table = curve(root.square().expand(len(light), -1), draws.sub("curve"))
    index = (light.clamp_max(_BRIGHTEST).sqrt() * ((_LEVELS - 1) / _BRIGHTEST**0.5) + 0.5).long()
    index = index.clamp(0, _LEVELS - 1)  # what is not a number is black: it must not stop a batch
    return table.gather(1, index.flatten(1)).view_as(light)


def curve(light: Tensor, draws: Draws) -> Tensor:
    """Values in 0..1 that a camera gives light [B, K], at least 0: roll-off, sRGB or none, gamma, contrast, fade."""
    knee = draws.between("knee", *_KNEE)[:, None].clamp_max(0.999)
    rolled = knee + (1 - knee) * (1 - torch.exp((knee - light) / (1 - knee)))
    held = torch.where(light < knee, light, rolled).clamp(0, 1)
    value = torch.where(draws.chance("linear", _LINEAR_SHARE)[:, None], held, srgb(held))
    value = value ** draws.log_between("gamma", *_GAMMA)[:, None]
    steeper = value * value * (3 - 2 * value)
    value = value + draws.between("contrast", *_CONTRAST)[:, None] * (steeper - value)
    faded = (draws.between("faded", *_FADED) * draws.chance("is_faded", _FADED_SHARE))[:, None]
    return faded + (1 - faded) * value


def srgb(light: Tensor) -> Tensor:
    """sRGB values of light in 0..1 (IEC 61966-2-1)."""
    return torch.where(light <= 0.0031308, light * 12.92, 1.055 * light.clamp_min(0.0031308) ** (1 / 2.4) - 0.055)


def _colour(image: Tensor, draws: Draws) -> Tensor:
    """Weaker or stronger colours, in some samples none."""
    saturation = draws.between("saturation", *_SATURATION) * ~draws.chance("grey", _GREY_SHARE)
    return torch.lerp(luminance(image), image, _each(saturation)).clamp(0, 1)


def _sharpen(image: Tensor, draws: Draws) -> Tensor:
    """Unsharp mask of luminance: edges get halos, colours keep."""
    grey = luminance(image)
    return (image + _each(draws.between("amount", *_SHARPEN)) * (grey - softened(grey))).clamp(0, 1)


# --- the file ---


def _resample(image: Tensor, draws: Draws) -> Tensor:
    """Of fewer pixels, and enlarged again, linearly or by cubics."""
    h, w = image.shape[-2:]
    factor = draws.log_between("factor", *_REDUCTION).view(-1, 1, 1)
    cubic = draws.chance("cubic", 0.5).float().view(-1, 1, 1)
    rows = reduction(factor, h, cubic)
    return separable(image, rows, rows if h == w else reduction(factor, w, cubic)).clamp(0, 1)


def _jpeg(image: Tensor, draws: Draws) -> Tensor:
    return jpeg(image, _each(draws.between("quality", *_QUALITY).round()))
