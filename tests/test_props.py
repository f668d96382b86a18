"""Glasses, hats, hands and clothes: what holds for every head, kind and batch."""

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from casfne.capture.draws import Draws
from casfne.capture.lighting.material import Material
from casfne.capture.wear import clothes, glasses, hand_material, hands, hats
from casfne.capture.wear.parts import CLOTH, GLASSES, HAND, HAT, LENS, Part

SEEDS = torch.arange(64)
BUDGET = {GLASSES: 3000, LENS: 3000, HAT: 6000, HAND: 3000, CLOTH: 2000}


@dataclass(frozen=True)
class Model:
    """What props ask of a head model."""

    template: Tensor
    triangles: Tensor
    region: Tensor
    landmarks: Tensor


def _tube(rows: Tensor, columns: int = 48) -> tuple[Tensor, Tensor]:
    """A surface round y through rows of (height, half width, half depth, depth of its middle)."""
    turn = torch.arange(columns) * (2 * math.pi / columns)
    x, z = rows[:, 1:2] * turn.sin(), rows[:, 3:4] + rows[:, 2:3] * turn.cos()
    points = torch.stack([x, rows[:, :1].expand_as(x), z], -1).view(-1, 3)
    row, column = torch.meshgrid(torch.arange(len(rows) - 1), torch.arange(columns), indexing="ij")
    a, b = row * columns + column, row * columns + (column + 1) % columns
    return points, torch.stack([a, b, a + columns, b, b + columns, a + columns], -1).view(-1, 3)


def _landmarks() -> Tensor:
    """A schematic face: an arc, arches, a line and rings, in metres."""
    turn = torch.linspace(-1, 1, 17) * (math.pi / 2)
    jaw = torch.stack([0.072 * turn.sin(), -0.11 * turn.cos(), 0.03 + 0.06 * turn.cos()], -1)
    across = torch.linspace(0.055, 0.012, 5)
    brow = torch.stack([-across, 0.022 + 0 * across, 0.098 - 0.45 * across], -1)
    nose = torch.stack([torch.zeros(4), torch.linspace(0, -0.033, 4), torch.linspace(0.097, 0.118, 4)], -1)
    base = torch.stack([torch.linspace(-0.012, 0.012, 5), torch.full((5,), -0.046), torch.full((5,), 0.104)], -1)
    ring = torch.tensor([math.pi, 2 * math.pi / 3, math.pi / 3, 0, -math.pi / 3, -2 * math.pi / 3])
    eye = torch.stack([-0.0315 + 0.0135 * ring.cos(), 0.005 * ring.sin(), 0.083 + 0 * ring], -1)
    lips = torch.linspace(math.pi, -math.pi, 13)[:-1]
    mouth = torch.stack([0.025 * lips.cos(), -0.07 + 0.009 * lips.sin(), 0.1 + 0 * lips], -1)
    inner = torch.linspace(math.pi, -math.pi, 9)[:-1]
    gap = torch.stack([0.02 * inner.cos(), -0.07 + 0.001 * inner.sin(), 0.1 + 0 * inner], -1)
    mirror = torch.tensor([-1.0, 1.0, 1.0])
    return torch.cat([jaw, brow, brow.flip(0) * mirror, nose, base, eye, eye[[3, 2, 1, 0, 5, 4]] * mirror, mouth, gap])


@pytest.fixture(scope="module")
def model() -> Model:
    """An ellipsoid with ears, on a neck."""
    rise = torch.linspace(math.pi / 2, -1.1, 40)
    skull = torch.stack([0.11 * rise.sin(), 0.076 * rise.cos(), 0.09 * rise.cos(), 0.0 * rise], -1)
    height = torch.linspace(-0.1, -0.2, 16)
    flare = (-height - 0.15).clamp_min(0)
    neck = torch.stack([height, 0.058 + 1.2 * flare, 0.058 + 0.8 * flare, -0.012 + 0 * height], -1)
    points, faces = _tube(torch.cat([skull, neck]))
    ear = (points[:, 0].abs() > 0.065) & (points[:, 1].abs() < 0.025) & (points[:, 2].abs() < 0.02)
    points[:, 0] += points[:, 0].sign() * ear * 0.012
    marks = _landmarks()
    numbers = torch.arange(68) + len(points)
    return Model(torch.cat([points, marks]), faces, torch.ones(len(faces), dtype=torch.int64), numbers)


@pytest.fixture(autouse=True)
def everybody(monkeypatch):
    """All wear everything, unless a test says otherwise."""
    for module in (glasses, hats, hands):
        monkeypatch.setattr(module, "SHARE", 1.0)


def _heads(model: Model, count: int) -> Tensor:
    """Heads of slightly different widths, heights and depths."""
    size = 1 + 0.03 * torch.randn(count, 1, 3, generator=torch.Generator().manual_seed(2))
    return model.template * size


def _made(model: Model, heads: Tensor, draws: Draws) -> list[Part]:
    worn = glasses.glasses(model, heads, draws)
    neck = clothes.neck_place(model, heads)
    hat = hats.hats(model, heads, draws).part
    return [worn.frame, worn.lens, hat, hands.hands(model, heads, draws), clothes.clothes(model, heads, neck, draws)]


def test_parts_are_whole_within_budget_and_repeatable(model):
    heads = _heads(model, len(SEEDS))
    first, again = _made(model, heads, Draws(SEEDS)), _made(model, heads, Draws(SEEDS))
    for one, two in zip(first, again, strict=True):
        assert one.vertices.isfinite().all() and one.place.isfinite().all()
        assert one.place.shape == one.along.shape == one.vertices.shape and one.worn.all()
        assert len(one.triangles) <= BUDGET[one.kind]
        assert one.triangles.min() == 0 and one.triangles.max() == one.vertices.shape[1] - 1
        assert torch.equal(one.vertices, two.vertices)
        assert one.vertices.abs().max() < 0.8


def test_a_sample_does_not_depend_on_its_batch(model):
    heads, some = _heads(model, len(SEEDS)), torch.tensor([41, 3, 17])
    for whole, alone in zip(
        _made(model, heads, Draws(SEEDS)), _made(model, heads[some], Draws(SEEDS[some])), strict=True
    ):
        torch.testing.assert_close(whole.vertices[some], alone.vertices, atol=1e-5, rtol=0)
        torch.testing.assert_close(whole.place[some], alone.place, atol=1e-5, rtol=0)


def test_what_is_not_worn_lies_at_the_origin(model, monkeypatch):
    for module in (glasses, hats, hands):
        monkeypatch.setattr(module, "SHARE", 0.4)
    for made in _made(model, _heads(model, len(SEEDS)), Draws(SEEDS))[:4]:
        assert 0 < made.worn.sum() < len(SEEDS)
        assert (made.vertices[~made.worn] == 0).all()
        assert made.vertices[made.worn].abs().amax((1, 2)).min() > 0.05


def test_wrong_vertices_are_refused(model):
    with pytest.raises(ValueError, match="expected vertices"):
        hats.hats(model, _heads(model, 3)[:, :-1], Draws(SEEDS[:3]))


def test_glasses_stand_before_the_eyes_and_reach_the_ears(model):
    heads = _heads(model, len(SEEDS))
    worn = glasses.glasses(model, heads, Draws(SEEDS))
    eyes = heads[:, model.landmarks[36:48]]
    lens = worn.lens.vertices
    assert (lens[..., 2].amin(1) > eyes[..., 2].amax(1) - 0.004).all()  # its outer end lies beside the eyeball
    for side, index in ((-1, slice(0, 6)), (1, slice(6, 12))):
        half = lens[:, : lens.shape[1] // 2] if side < 0 else lens[:, lens.shape[1] // 2 :]
        eye = eyes[:, index].mean(1)
        nearest = (half - eye[:, None]).norm(dim=-1).amin(1)
        assert (nearest > 0.008).all() and (nearest < 0.03).all()
        assert (half[..., :2].amin(1) < eye[:, :2]).all() and (half[..., :2].amax(1) > eye[:, :2]).all()
        ear = glasses.ear_tops(model, heads)[:, (side + 1) // 2]
        assert ((worn.frame.vertices - ear[:, None]).norm(dim=-1).amin(1) < 0.012).all()


def test_lenses_of_every_kind_occur_and_only_dark_ones_are_opaque(model):
    draws = Draws(torch.arange(400))
    looks = glasses.lens_looks(draws)
    assert sorted(looks.kind.unique().tolist()) == [0, 1, 2]
    assert (looks.kind == 2).float().mean().sub(glasses.SUNGLASSES).abs() < 0.06
    assert (looks.transmission[looks.kind == 2] == 0).all() and (looks.transmission[looks.kind == 0] > 0.9).all()
    worn = glasses.glasses(model, _heads(model, 1).expand(400, -1, -1), draws)
    assert torch.equal(worn.lens_opaque, worn.lens.worn & (looks.kind == 2))


@pytest.mark.parametrize("kind", range(6))
def test_hats_enclose_the_crown_and_press_hair_inside(model, monkeypatch, kind):
    heads, draws = _heads(model, 16), Draws(SEEDS[:16])
    monkeypatch.setattr(hats, "hat_kind", lambda draws: torch.full((len(draws),), kind))
    worn = hats.hats(model, heads, draws)
    upper = heads[:, model.template[:, 1] > 0.075]
    if kind != hats.BAND:
        crown = upper[..., 1].amax(1)
        assert (worn.part.vertices[..., 1].amax(1) > crown).all()
        torch.testing.assert_close(worn.press(upper), upper, atol=0.005, rtol=0)  # the scalp itself is inside already
    wild = worn.centre[:, None] + (upper - worn.centre[:, None]) * 1.6
    pressed = worn.press(wild)
    reach = (pressed - worn.centre[:, None]).norm(dim=-1)
    moved = (pressed - wild).norm(dim=-1) > 1e-6
    assert moved.any(1).all() and (reach <= (wild - worn.centre[:, None]).norm(dim=-1) + 1e-6).all()
    assert (worn.hides_hair == (kind in (hats.SCARF, hats.HELMET))).all()
    free = worn.centre[:, None] + torch.tensor([0.0, -0.09, 0.05])
    torch.testing.assert_close(worn.press(free), free)


@pytest.mark.parametrize("kind", range(10))
def test_hands_and_things_lie_before_the_head(model, monkeypatch, kind):
    heads, draws = _heads(model, 16), Draws(SEEDS[:16])
    monkeypatch.setattr(hands, "hand_kind", lambda draws: torch.full((len(draws),), kind))
    made = hands.hands(model, heads, draws)
    middle = heads[:, : len(model.template) - 68].mean(1)
    depth = made.vertices[..., 2].amax(1)
    limit = 0.02 if kind == hands.CALL else 0.08
    assert (depth > limit).all()
    skull = ((made.vertices - middle[:, None]) / torch.tensor([0.06, 0.1, 0.07])).norm(dim=-1)
    assert (skull.amin(1) > 0.55).all()  # nothing deep inside
    if kind < hands.CALL:
        near = torch.cdist(made.vertices[:, :720], heads).amin((1, 2))  # the fingers
        assert (near < 0.03).all()


def test_clothes_meet_the_neck_and_stay_below_the_chin(model):
    heads, draws = _heads(model, len(SEEDS)), Draws(SEEDS)
    neck = clothes.neck_place(model, heads)
    made = clothes.clothes(model, heads, neck, draws)
    chin = heads[:, model.landmarks[8], 1]
    ahead = made.vertices[..., 2] > 0.05
    assert (torch.where(ahead, made.vertices[..., 1], -1.0).amax(1) < chin + 0.02).all()
    apart = (made.vertices - neck[:, None])[..., ::2].norm(dim=-1)
    high = (made.vertices - neck[:, None])[..., 1].abs() < 0.03
    inner = torch.where(high, apart, 9.0)[:, 49:].amin(1)  # without the first row, which closes the collar
    assert (inner < 0.085).all() and (inner > 0.04).all()
    moved = clothes.clothes(model, heads, neck + torch.tensor([0.0, 0.0, 0.03]), draws)
    chest = made.vertices[..., 1] < neck[:, None, 1] - 0.15
    torch.testing.assert_close(
        (moved.vertices - made.vertices)[chest], torch.tensor([0.0, 0.0, 0.03]).expand(int(chest.sum()), 3)
    )


def test_tucked_heads_are_changed_below_the_collar_alone(model):
    heads = _heads(model, 8)
    tucked = clothes.tucked(model, heads)
    above = model.template[:, 1] > 1.24 * model.template[model.landmarks[8], 1]
    assert torch.equal(tucked[:, above], heads[:, above])
    low = model.template[:, 1] < -0.17
    neck = clothes.neck_place(model, heads)
    assert ((tucked[:, low] - neck[:, None])[..., ::2].norm(dim=-1) < 0.06).all()


def test_materials_are_physical_and_follow_the_sample_alone(model):
    draws, tone = Draws(SEEDS), torch.full((len(SEEDS), 3), 0.3)
    heads = _heads(model, len(SEEDS))
    makers = [
        glasses.glasses_material,
        glasses.lens_material,
        hats.hat_material,
        lambda place, sample, draws: hand_material.hand_material(place, sample, draws, tone[: len(draws)]),
        lambda place, sample, draws: clothes.cloth_material(place, sample, draws, tone[: len(draws)]),
    ]
    for made, material in zip(_made(model, heads, draws), makers, strict=True):
        place, sample = made.place.flatten(0, 1), SEEDS.repeat_interleave(made.place.shape[1])
        found = material(place, sample, draws)
        _assert_physical(found, len(place))
        one = material(made.place[5], torch.zeros(made.place.shape[1], dtype=torch.int64), Draws(SEEDS[5:6]))
        torch.testing.assert_close(found.of(sample == 5).albedo, one.albedo, atol=1e-4, rtol=1e-3)
        assert found.albedo.view(len(SEEDS), -1, 3).mean(1).std(0).min() > 0.003 or material is makers[1]


def _assert_physical(found: Material, count: int) -> None:
    assert found.albedo.shape == (count, 3) and (found.albedo > 0).all() and (found.albedo < 0.9).all()
    assert found.specular.shape == (count,) and (found.specular >= 0).all() and (found.specular <= 1).all()
    assert (found.roughness >= 0.02).all() and (found.roughness <= 1).all()
    for share in (found.scatter, found.sheen):
        assert (share >= 0).all() and (share <= 1).all()


def test_glasses_grow_with_the_head(model):
    heads = _heads(model, 2)
    one = glasses.glasses(model, heads, Draws(SEEDS[:2])).frame.vertices
    two = glasses.glasses(model, heads * 1.08, Draws(SEEDS[:2])).frame.vertices
    grown = (two.amax(1) - two.amin(1)) / (one.amax(1) - one.amin(1))
    assert (grown[:, 0] > 1.04).all() and (grown[:, 0] < 1.12).all()
