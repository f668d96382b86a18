"""Light: exact where it must be, no energy from nowhere, surroundings as they integrate, sound set-ups."""

import math

import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional
from torchvision.io import write_png

from casfne.capture.draws import Draws
from casfne.capture.lighting.environment import (
    basis,
    black_body,
    directions,
    luminance_of,
    project,
    read_environment,
    surround,
    to_linear,
)
from casfne.capture.lighting.light import direct, environment, sample_lights
from casfne.capture.lighting.material import Material
from casfne.capture.lighting.rigs import RIGS, sample_rigs
from casfne.errors import InputError

COUNT = 4000
EYE = torch.tensor([0.0, 0, 1])


def units(count=COUNT, seed=0):
    made = torch.randn(count, 3, generator=torch.Generator().manual_seed(seed))
    return functional.normalize(made, dim=1)


def stuff(count, albedo=1.0, specular=0.0, roughness=0.4, scatter=0.0, sheen=0.0):
    flat = (torch.full((count,), float(v)) for v in (specular, roughness, scatter, sheen))
    return Material(torch.full((count, 3), float(albedo)), *flat)


def lit(normals, towards, material, **others):
    """Under a white light, seen from the camera."""
    count = len(normals)
    white, eye = torch.ones(count, 3), EYE.expand(count, 3)
    return direct(normals, eye, material, towards.expand(count, 3), white, torch.ones(count), **others)


# --- one light ---


def test_a_matte_surface_is_lamberts_exactly():
    rng = torch.Generator().manual_seed(1)
    albedo, colour = torch.rand(COUNT, 3, generator=rng), torch.rand(COUNT, 3, generator=rng) * 4
    visible = torch.rand(COUNT, generator=rng)
    zero = torch.zeros(COUNT)
    normals, view, towards = (units(seed=s) for s in (2, 3, 4))
    made = direct(normals, view, Material(albedo, zero, zero + 0.3, zero, zero), towards, colour, visible)
    facing = (normals * towards).sum(1).clamp_min(0)
    assert torch.allclose(made, albedo * colour * (visible * facing)[:, None], rtol=1e-5, atol=1e-7)


def test_a_softer_terminator_is_red_and_makes_no_light():
    normals, towards = units(200_000), torch.tensor([[0.6, 0, 0.8]])
    hard, soft = (lit(normals, towards, stuff(len(normals), scatter=s)) for s in (0, 1))
    total = soft.mean(0) / hard.mean(0)
    assert total.max() < 1.02 and total.min() > 0.93
    cosine = normals @ towards[0]
    red, green, blue = (soft / hard)[(cosine > 0.02) & (cosine < 0.1)].mean(0)
    assert red > 1.2 and red > green > blue > 1 and not soft[cosine < 0].any()
    assert torch.allclose(lit(towards, towards, stuff(1, scatter=1)), torch.ones(1, 3))
    assert (soft[cosine.argsort()].diff(dim=0) > -1e-6).all()


def test_a_shadows_edge_on_skin_is_red_and_its_ends_are_not():
    one = torch.ones(3, 3)
    visible = torch.tensor([0.0, 0.5, 1])
    towards = EYE.expand(3, 3)
    dark, edge, bright = direct(towards, towards, stuff(3, scatter=1), towards, one, visible)
    assert not dark.any() and torch.allclose(bright, one[0]) and edge[0] > edge[1] > edge[2] > 0.4


@pytest.mark.parametrize("roughness", [0.1, 0.4, 0.9])
def test_a_highlight_peaks_at_the_half_vector(roughness):
    towards = functional.normalize(torch.tensor([[0.5, 0.5, 0.7]]), dim=1)
    half = functional.normalize(towards[0] + EYE, dim=0)
    normals = functional.normalize(half + 0.5 * units(50_000), dim=1)
    shine = lit(normals, towards, stuff(50_000, albedo=0, specular=0.04, roughness=roughness))[:, 0]
    best = normals[shine.topk(20).indices].mean(0)
    assert math.degrees(math.acos(float((functional.normalize(best, dim=0) @ half).clamp(-1, 1)))) < (
        3 if roughness < 0.5 else 12  # a broad one leans towards the light
    )
    assert not shine[(normals @ towards[0]) < 0].any()


@pytest.mark.parametrize("spread", [None, 0.4])
def test_a_mirror_gives_back_no_more_than_it_gets(spread):
    """Mean over all lights of the highlight, which is what a white sky would give."""
    towards = units(400_000)
    for cosine in (1.0, 0.5, 0.2):
        normals = torch.tensor([[math.sqrt(1 - cosine**2), 0, cosine]]).expand(400_000, 3)
        others = {} if spread is None else {"spread": torch.full((400_000,), spread)}
        shine = lit(normals, towards, stuff(400_000, albedo=0, specular=1, roughness=0.5), **others)[:, 0]
        total = 4 * float(shine.mean())  # over the sphere / pi
        assert 0.6 < total < 1.05


def test_a_wide_lamp_has_a_wide_and_dim_highlight():
    towards = EYE[None]
    material = stuff(1, albedo=0, specular=0.04, roughness=0.1)
    narrow, wide = (float(lit(EYE[None], towards, material, spread=torch.tensor([s]))[0, 0]) for s in (0.0, 0.4))
    assert narrow > 5 * wide > 0


def test_hair_shines_across_its_strands():
    """Points round a strand along y: bright where the light is mirrored by its side, by bands of y otherwise."""
    count = 181
    turn = torch.linspace(-80, 80, count).deg2rad()
    along = torch.stack([torch.zeros(count), turn.cos(), turn.sin()], 1)
    normals = torch.stack([torch.zeros(count), -turn.sin(), turn.cos()], 1)
    hair = stuff(count, albedo=0.04, specular=0.046, roughness=0.4)
    shine = lit(normals, EYE[None], hair, along=along) - lit(normals, EYE[None], stuff(count, albedo=0.04))
    peak = float(turn[shine.sum(1).argmax()].rad2deg().abs())
    assert 1 < peak < 12  # tilted by the scales
    red, _, blue = shine.T
    assert torch.allclose(red, blue)  # grey hair
    plain = lit(normals, EYE[None], hair, along=torch.zeros(count, 3))
    assert torch.equal(plain, lit(normals, EYE[None], hair))


def test_sheen_is_a_rim():
    normals = torch.tensor([[0.0, 0, 1], [0.95, 0, math.sqrt(1 - 0.95**2)]])
    towards = torch.tensor([[0.7071, 0, 0.7071]])
    plain, velvet = (lit(normals, towards, stuff(2, albedo=0.1, sheen=s)) for s in (0, 1))
    assert torch.allclose(plain[0], velvet[0]) and (velvet[1] > 1.5 * plain[1]).all()


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="towards: expected"):
        direct(units(4), units(4), stuff(4), units(3), units(4), torch.ones(4))
    with pytest.raises(ValueError, match=r"expected ambient \[B, 9, 3\]"):
        environment(units(4), units(4), stuff(4), torch.zeros(4).long(), torch.ones(1, 3, 9), torch.ones(4))


# --- all round ---


def white_room():
    return project(torch.ones(1, 3, 24, 48))


def seen(normals, material, ambient, open_share=1.0):
    count = len(normals)
    return environment(
        normals, EYE.expand(count, 3), material, torch.zeros(count).long(), ambient, torch.full((count,), open_share)
    )


@pytest.mark.parametrize("specular, roughness", [(0, 0.4), (0.028, 0.1), (0.028, 0.4), (0.05, 1)])
def test_a_white_thing_in_a_white_room_is_white(specular, roughness):
    normals = units()
    normals = normals * torch.where(normals[:, 2:] < 0, -1, 1)
    made = seen(normals, stuff(COUNT, specular=specular, roughness=roughness), white_room())
    assert made.max() < 1.02 and made.min() > 0.93


def test_a_constant_and_a_lamp_project_as_they_integrate():
    flat = torch.zeros(9, 3)
    flat[0] = math.sqrt(4 * math.pi)
    assert torch.allclose(white_room()[0], flat, atol=6e-3)
    middle = functional.normalize(torch.tensor([0.3, 0.5, 0.8]), dim=0)
    places = units(1_000_000, seed=5)
    numeric = (basis(places) * torch.exp(3 * (places @ middle - 1))[:, None]).mean(0) * 4 * math.pi
    made = project(torch.exp(3 * (directions(24, 48) @ middle - 1)).expand(1, 3, 24, 48))[0, :, 0]
    assert torch.allclose(made, numeric, atol=0.01)
    own = surround(torch.zeros(1, 3, 3), torch.ones(1, 1, 3), middle.view(1, 1, 3), torch.full((1, 1), 3.0))
    assert torch.allclose(own[0, :, 0], numeric, atol=0.015)


def test_the_functions_are_orthonormal():
    values = basis(units(1_000_000)).double()
    assert torch.allclose(values.T @ values / len(values) * 4 * math.pi, torch.eye(9).double(), atol=0.02)


def test_matte_light_is_the_cosine_weighted_mean_of_radiance():
    middle = functional.normalize(torch.tensor([0.3, 0.5, 0.8]), dim=0)
    places, normals = units(200_000, seed=5), units(50)
    radiance = torch.exp(2 * (places @ middle - 1))
    numeric = ((normals @ places.T).clamp_min(0) * radiance).mean(1) * 4
    ambient = surround(torch.zeros(1, 3, 3), torch.ones(1, 1, 3), middle.view(1, 1, 3), torch.full((1, 1), 2.0))
    made = seen(normals, stuff(50, specular=0), ambient)[:, 0]
    assert (made - numeric).abs().max() < 0.03


def test_a_smoother_mirror_shows_more_of_a_lamp():
    ambient = surround(torch.zeros(1, 3, 3), torch.ones(1, 1, 3), EYE.view(1, 1, 3), torch.full((1, 1), 6.0))
    shine = [float(seen(EYE[None], stuff(1, albedo=0, specular=0.04, roughness=r), ambient)[0, 0]) for r in (0.1, 0.9)]
    assert shine[0] > 1.3 * shine[1] > 0


def test_creases_are_darker_and_bright_ones_less_so():
    shares = [seen(EYE[None], stuff(1, albedo=a), white_room(), 0.5)[0, 0] / a for a in (0.05, 0.8)]
    assert 0.49 < shares[0] < 0.53 < shares[1] < 0.9


def test_light_is_never_negative_nor_mixes_samples():
    ambient = torch.randn(3, 9, 3)
    sample, normals = torch.arange(COUNT) % 3, units()
    material, view, share = stuff(COUNT, specular=0.03, sheen=0.5), units(seed=1), torch.rand(COUNT)
    together = environment(normals, view, material, sample, ambient, share)
    assert together.min() >= 0
    alone = sample == 1
    own = environment(
        normals[alone], view[alone], material.of(alone), torch.zeros(COUNT)[alone].long(), ambient[1:2], share[alone]
    )
    assert torch.allclose(together[alone], own, atol=1e-6)


def test_cooler_bodies_are_warmer_in_colour():
    kelvin = torch.linspace(2200, 9000, 100)
    colours = black_body(kelvin)
    assert torch.allclose(luminance_of(colours), torch.ones(100, 1), atol=1e-4)
    assert ((colours[:, 0] / colours[:, 2]).diff() < 0).all()
    red, green, blue = black_body(torch.tensor(2700.0))  # about (255, 169, 87) in sRGB
    wanted = to_linear(torch.tensor([255, 169, 87]) / 255)
    assert torch.allclose(torch.stack([green, blue]) / red, wanted[1:] / wanted[0], atol=0.05)
    assert (black_body(torch.tensor(6500.0)) - 1).abs().max() < 0.05


# --- set-ups ---


def test_every_set_up_is_found_at_its_share_and_is_sound():
    draws = Draws(torch.arange(6000))
    lights, rigs = sample_lights(draws), sample_rigs(draws).rig
    shares = torch.tensor([r.share for r in RIGS.values()])
    assert torch.allclose(torch.bincount(rigs, minlength=len(RIGS)) / 6000, shares / shares.sum(), atol=0.02)
    assert 0.11 < shares[[list(RIGS).index(n) for n in ("hard", "hard_wide")]].sum() / shares.sum() < 0.17
    length = lights.place.norm(dim=-1)
    assert torch.allclose(length[~lights.near], torch.tensor(1.0), atol=1e-5) and length[lights.near].min() > 0.45
    assert (lights.colour >= 0).all() and (lights.size > 0).all()
    assert (lights.colour[:, 0].sum(-1) > 0).float().mean() > 0.9
    mean = lights.ambient[:, 0] * 0.282095
    assert (mean > 0).all() and torch.isfinite(lights.ambient).all()
    hard = (rigs == list(RIGS).index("hard")) | (rigs == list(RIGS).index("hard_wide"))
    assert (lights.colour[hard, 1:] == 0).all()
    assert (mean[hard] / lights.colour[hard, 0]).max() < 0.15
    off = lights.place[hard, 0, 2].acos().rad2deg()
    assert off.max() < 80.1 and 0.5 < (off < 40).float().mean() < 0.8
    assert (lights.place[:, 0, 0] > 0).float().mean() == pytest.approx(0.5, abs=0.03)


def test_set_ups_do_not_depend_on_the_batch():
    together, alone = sample_lights(Draws(torch.arange(20))), sample_lights(Draws(torch.tensor([13])))
    for name in ("place", "near", "colour", "size", "ambient"):
        assert torch.allclose(getattr(together, name)[13:14].float(), getattr(alone, name).float(), atol=1e-6), name


# --- files ---


def hdr(values, packed):
    """A Radiance file of bytes [h, w, 4]."""
    height, width = values.shape[:2]
    data = b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y %d +X %d\n" % (height, width)
    if not packed:
        return data + values.tobytes()
    for line in values:
        data += bytes([2, 2, width >> 8, width & 255])
        for channel in line.T:
            half = width // 2
            assert (channel[:half] == channel[0]).all()
            data += bytes([128 + half, channel[0], width - half]) + channel[half:].tobytes()
    return data


@pytest.mark.parametrize("packed", [False, True])
def test_radiance_files_are_read(tmp_path, packed):
    values = np.random.default_rng(0).integers(0, 256, (6, 12, 4), dtype=np.uint8)
    values[:, :6], values[..., 3] = values[:, :1], 130
    (tmp_path / "a.hdr").write_bytes(hdr(values, packed))
    made = read_environment(tmp_path / "a.hdr")
    assert torch.allclose(made, torch.from_numpy(values[..., :3] / 256 * 4).permute(2, 0, 1).float())


def test_pictures_are_read_as_light(tmp_path):
    write_png(torch.full((3, 4, 8), 128, dtype=torch.uint8), str(tmp_path / "a.png"))
    assert read_environment(tmp_path / "a.png").mean() == pytest.approx(0.2159, abs=1e-3)
    assert cv2.imwrite(str(tmp_path / "deep.png"), np.full((4, 8, 3), 128 * 257, np.uint16))
    assert read_environment(tmp_path / "deep.png").mean() == pytest.approx(0.2159, abs=1e-3)


def test_bad_files_are_named(tmp_path):
    values = np.full((6, 12, 4), 128, np.uint8)
    whole = hdr(values, True)
    for name, data in {
        "empty": b"",
        "text": b"no picture",
        "cut": whole[:-9],
        "header": b"#?RADIANCE\n\n-Y 2 +X 2\n",
        "size": whole.replace(b"-Y 6", b"-Y x"),
        "run": whole.replace(bytes([134, 128]), bytes([250, 128])),
    }.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match=name):
            read_environment(tmp_path / name)
    with pytest.raises(InputError, match="cannot be read"):
        read_environment(tmp_path / "missing.hdr")


def test_a_panorama_looks_at_the_camera():
    where = directions(8, 16)
    assert where[4, 8, 2] > 0.9 and where[0, 0, 1] > 0.9 and where[4, 12, 0] < -0.9  # their right is the picture's left
