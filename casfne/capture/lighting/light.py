"""How surfaces answer to light: one light at a time, and light from all round. Linear RGB, float32.

A light's colour is the radiance of a white matte surface that faces it, and an environment's radiance is that of a
white matte surface inside it: no pi appears. Vectors [N, 3] are unit ones and point away from the surface.
"""

import math
from dataclasses import replace

import torch
from torch import Tensor

from casfne.capture.draws import Draws
from casfne.capture.lighting.environment import mean_luminance
from casfne.capture.lighting.material import Material
from casfne.capture.lighting.rigs import sample_rigs
from casfne.capture.lighting.shadows import Lights

_WRAP = (0.3, 0.12, 0.06)  # how far light spreads about the terminator in red, green, blue, at scatter 1 (cosine)
_TOE = 0.015  # cosine at which the raised light has half fallen to zero, at scatter 1
_BLEED = (0.30, 0.0, -0.12)  # the same in the penumbra of cast shadows: it reddens
_SHARPEST = 0.025  # least width (GGX's alpha) of a highlight: a narrower one falls between pixels
_OIL, _OIL_WIDTH = 0.2, 0.6  # share and relative width of the second lobe: skin's oil, varnish, worn plastic
_SHEEN = 0.5
PANORAMAS = 0.6  # share of the samples whose surroundings are the user's own, where there are any
_FULL_FRESNEL = 50.0  # no surface under 2 % reflects everything at grazing angles; one of 0 % reflects nothing
_COSINE_BANDS = (2 / 3, 1 / 4)  # of a clamped cosine / pi, orders 1 and 2 (Ramamoorthi and Hanrahan 2001)
_TILT = 0.07  # radians by which a hair's scales turn its highlights, about 4 degrees (Marschner et al. 2003)
_COLOURED_WIDTH = 1.8  # of the highlight through the hair, in widths of that of its surface


def sample_lights(draws: Draws) -> Lights:
    """Three lights (some of colour 0) and surroundings for each sample, as `rigs` has them; only ratios matter."""
    drawn = sample_rigs(draws)
    near = drawn.distance > 0
    place = drawn.direction * torch.where(near, drawn.distance, 1.0)[..., None]
    return Lights(place=place, near=near, colour=drawn.colour, size=drawn.size, ambient=drawn.ambient)


def among(lights: Lights, environments: Tensor, draws: Draws) -> Lights:
    """The lights, ``PANORAMAS`` of the samples among those of ``environments`` [K, 9, 3] (see `read_environments`),
    which are as bright as the surroundings that were there."""
    own = draws.sub("environment")
    chosen = environments[(own.uniform("which") * len(environments)).long()]
    chosen = chosen * mean_luminance(lights.ambient)[:, None, None]
    ambient = torch.where(own.chance("panorama", PANORAMAS)[:, None, None], chosen, lights.ambient)
    return replace(lights, ambient=ambient)


def direct(
    normals: Tensor,
    view: Tensor,
    material: Material,
    towards: Tensor,
    colour: Tensor,
    visible: Tensor,
    along: Tensor | None = None,
    spread: Tensor | None = None,
) -> Tensor:
    """Radiance [N, 3] towards ``view`` under one light.

    normals, view, towards (to the light), colour [N, 3]; visible [N] in 0..1, cast shadows; along [N, 3]: unit
    direction of strands of hair from the root on, zeros elsewhere: they have highlights of their own; spread [N]: the
    light's angular radius in radians, which widens highlights. With specular, scatter and sheen at 0 it is exactly
    albedo * colour * visible * max(0, n.l).
    """
    _check(normals, view=view, towards=towards, colour=colour)
    n, v, to = normals.T.contiguous(), view.T.contiguous(), towards.T.contiguous()
    nl, nv, lv = _dot(n, to), _dot(n, v), _dot(to, v)
    albedo = material.albedo.T.contiguous()
    facing = nl.clamp_min(0)
    gloss = _highlight(facing, nv, nl, lv, material, spread)
    mirrored = gloss.expand(3, -1)
    if along is not None:
        strands = (along != 0).any(1).nonzero()[:, 0]
        shine = _hair(along[strands].T, to[:, strands], v[:, strands], nl[strands], material.of(strands))
        mirrored = mirrored.index_copy(1, strands, shine)
    velvet = (_SHEEN * material.sheen) * (1 - nv.clamp(0, 1)).square().square() * facing
    matte = albedo * _wrapped(nl, material.scatter) + mirrored + velvet * (0.5 + 0.5 * albedo)
    return (matte * _bled(visible, material.scatter)).T.contiguous() * colour


def environment(
    normals: Tensor, view: Tensor, material: Material, sample: Tensor, ambient: Tensor, open_share: Tensor
) -> Tensor:
    """Radiance [N, 3] towards ``view`` from all round.

    normals, view [N, 3]; sample int64 [N]; ambient [B, 9, 3]: coefficients of radiance, as in `environment.surround`;
    open_share [N] in 0..1: how much of the surroundings a point sees.
    """
    _check(normals, view=view)
    if ambient.ndim != 3 or ambient.shape[1:] != (9, 3):
        raise ValueError(f"expected ambient [B, 9, 3], got {list(ambient.shape)}")
    n, v = normals.T.contiguous(), view.T.contiguous()
    albedo = material.albedo.T.contiguous()
    nv = _dot(n, v)
    own = ambient.permute(1, 2, 0).flatten(0, 1).index_select(1, sample).view(9, 3, -1)
    kept = torch.exp(-material.roughness.square().square())  # of order 1, by a Gaussian lobe of width alpha
    diffuse = _radiance(n, own, *_COSINE_BANDS)
    mirrored = _radiance(2 * nv * n - v, own, kept, kept.square().square())
    gloss = _glossy_share(nv.clamp(0, 1), material)
    velvet = (_SHEEN * material.sheen) * (1 - nv.clamp(0, 1)).square().square()
    matte = albedo * (1 - gloss) * _many_bounces(open_share, albedo) + velvet * open_share
    return (diffuse * matte + mirrored * (gloss * open_share)).T.contiguous()


def _check(normals: Tensor, **others: Tensor) -> None:
    for name, values in others.items():
        if values.shape != normals.shape or normals.ndim != 2 or normals.shape[1] != 3:
            raise ValueError(f"{name}: expected [N, 3] as the normals, got {list(values.shape)}, {list(normals.shape)}")


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Of vectors [3, N], [N]."""
    return (a * b).sum(0)


def _channels(values: tuple[float, ...], like: Tensor) -> Tensor:
    return torch.tensor(values, device=like.device)[:, None]


# --- one light ---


def _wrapped(nl: Tensor, scatter: Tensor) -> Tensor:
    """A cosine [N] that is raised near the terminator, [3, N]; 1 at 1, 0 from 0 on, and in all no more light.

    ((c + w) / (1 + w)) ** (1 + 2 w): a guess at pre-integrated skin (Penner 2011), whose integral over c is 1/2. A toe
    takes it to zero at the terminator: what lies beyond may be in a cast shadow, of which no shadow map tells there.
    """
    reach = _channels(_WRAP, nl) * scatter
    facing, toe = nl.clamp_min(0), _TOE * scatter
    raised = ((facing + reach) / (1 + reach)) ** (1 + 2 * reach)
    return raised * (facing * (1 + toe) / (facing + toe).clamp_min(1e-9))


def _bled(visible: Tensor, scatter: Tensor) -> Tensor:
    """What of the light arrives in each channel [3, N]: light that travels under the skin crosses a shadow's edge."""
    return visible + _channels(_BLEED, visible) * (scatter * visible * (1 - visible))


def _fresnel(specular: Tensor, cosine: Tensor) -> Tensor:
    """Schlick's, [N]."""
    grazing = (1 - cosine).clamp_min(0)
    full = (_FULL_FRESNEL * specular).clamp_max(1)
    return specular + (full - specular) * grazing.square().square() * grazing


def _highlight(facing: Tensor, nv: Tensor, nl: Tensor, lv: Tensor, material: Material, spread: Tensor | None) -> Tensor:
    """GGX with Smith's shadowing (Hammon's fit) times pi n.l, [N]; the half vector's cosines without the vector."""
    towards_half = (2 + 2 * lv).clamp_min(1e-6).rsqrt()
    nh, vh = (nl + nv) * towards_half, (1 + lv) * towards_half
    alpha = material.roughness.square()
    if spread is not None:
        alpha = (alpha.square() + spread.square() / 8).sqrt()  # variance of a disc, of half vectors: a quarter
    alpha = alpha.clamp_min(_SHARPEST)
    lobes = (1 - _OIL) * _ggx(nh, alpha) + _OIL * _ggx(nh, (alpha * _OIL_WIDTH).clamp_min(_SHARPEST))
    seen = nv.clamp_min(1e-3)
    shadowing = 0.5 / torch.lerp(2 * facing * seen, facing + seen, alpha)
    return lobes * shadowing * facing * _fresnel(material.specular, vh)


def _ggx(nh: Tensor, alpha: Tensor) -> Tensor:
    """Its distribution times pi, [N]."""
    squared = alpha.square()
    return squared / (nh.square() * (squared - 1) + 1).square()


def _hair(along: Tensor, to: Tensor, v: Tensor, nl: Tensor, material: Material) -> Tensor:
    """Highlights of strands along [3, N], [3, N]: one off the surface, white, and one through the hair, coloured.

    Two lobes of Marschner et al. 2003 with tilts to either side; the lobe opposite the light is left out.
    """
    tl, tv = _dot(along, to), _dot(along, v)
    flat_l, flat_v = (1 - tl.square()).clamp_min(1e-4), (1 - tv.square()).clamp_min(1e-4)
    azimuth = ((_dot(to, v) - tl * tv) * (flat_l * flat_v).rsqrt()).clamp(-1, 1)
    half = (0.5 + 0.5 * azimuth).sqrt()  # cosine of half the azimuth between light and viewer
    tilt, width = 0.5 * (tl + tv), material.roughness.square().clamp_min(0.04)
    surface = _bell(tilt - _TILT, width) * half * _fresnel(material.specular, half)
    through = _bell(tilt + 1.5 * _TILT, _COLOURED_WIDTH * width) * half.square() * material.specular
    shine = surface + through * material.albedo.T.sqrt()
    # strands see round the head a little: their normal is that of the tuft
    return shine * ((math.pi / 4) * flat_l.sqrt() * (1.5 * nl + 0.3).clamp(0, 1))


def _bell(x: Tensor, width: Tensor) -> Tensor:
    """Normal distribution's density."""
    return torch.exp(-0.5 * (x / width).square()) / (width * math.sqrt(2 * math.pi))


# --- all round ---


def _radiance(direction: Tensor, own: Tensor, first: Tensor | float, second: Tensor | float) -> Tensor:
    """Sum [3, N] of the functions at directions [3, N] times coefficients [9, 3, N]; orders 1 and 2 times a factor.

    As `environment.basis`, but a function at a time: no [N, 9] is made.
    """
    x, y, z = direction
    linear = own[1] * y + own[2] * z + own[3] * x
    mixed = own[4] * (x * y) + own[5] * (y * z) + own[7] * (x * z)
    square = own[6] * (0.946176 * z * z - 0.315392) + own[8] * (0.546274 * (x * x - y * y))
    total = 0.282095 * own[0] + linear * (0.488603 * first) + (1.092548 * mixed + square) * second
    return total.clamp_min(0)


def _glossy_share(nv: Tensor, material: Material) -> Tensor:
    """Of light from all round that a surface mirrors, [N]: Lazarov's fit of GGX's integral as shortened
    by Karis (2014)."""
    rough = material.roughness
    first = 1 - rough
    fall = torch.minimum(first.square(), torch.exp2(-9.28 * nv)) * first + 0.0425 - 0.0275 * rough
    scale = -1.04 * fall + 1.04 - 0.572 * rough
    offset = 1.04 * fall - 0.04 + 0.022 * rough
    return (material.specular * scale + (_FULL_FRESNEL * material.specular).clamp_max(1) * offset).clamp(0, 1)


def _many_bounces(open_share: Tensor, albedo: Tensor) -> Tensor:
    """Share [3, N] of the surroundings' light once creases of bright skin light themselves (Jimenez et al. 2016)."""
    x = open_share
    a, b, c = 2.0404 * albedo - 0.3324, -4.7951 * albedo + 0.6417, 2.7552 * albedo + 0.6903
    return torch.maximum(x, ((x * a + b) * x + c) * x)
