"""Hair and lashes: what holds for every head, style and batch."""

import math

import pytest
import torch

from casfne.capture.draws import Draws
from casfne.capture.people.heads import HeadModel, read_head_model
from casfne.capture.wear.hair import (
    BALD,
    CARDS,
    SEGMENTS,
    STYLES,
    Style,
    hair,
    hair_material,
    hairline,
    sample_style,
)
from casfne.capture.wear.lashes import LOWER, UPPER, lashes, lashes_material

RINGS = 2 * SEGMENTS + 1  # vertices a card
SEEDS = torch.arange(48)


@pytest.fixture(scope="module")
def egg():
    """A head like an egg, with landmarks where a face would have them."""
    rows, columns = 41, 60
    elevation = torch.linspace(-math.pi / 2, math.pi / 2, rows)[:, None]
    azimuth = torch.arange(columns) * (2 * math.pi / columns)
    shape = torch.stack(
        torch.broadcast_tensors(azimuth.sin() * elevation.cos(), elevation.sin(), azimuth.cos() * elevation.cos()), -1
    )
    template = (shape * torch.tensor([0.078, 0.11, 0.097])).view(-1, 3)
    row, column = torch.meshgrid(torch.arange(rows - 1), torch.arange(columns), indexing="ij")
    a, b = row * columns + column, row * columns + (column + 1) % columns
    triangles = torch.stack([a, b, a + columns, b, b + columns, a + columns], -1).view(-1, 3)
    wanted = torch.tensor([0.0, 0.0, 0.1]).repeat(68, 1)
    for number, place in {
        0: (-0.073, 0, 0.026),
        16: (0.073, 0, 0.026),
        8: (0, -0.11, 0.01),
        1: (-0.078, -0.02, 0),
        15: (0.078, -0.02, 0),
    }.items():
        wanted[number] = torch.tensor(place)
    wanted[[19, 24], 1] = 0.0245
    for first, x in ((36, -0.03), (42, 0.03)):
        across = torch.tensor([-0.015, -0.006, 0.006, 0.015, 0.006, -0.006])
        wanted[first : first + 6, 0] = x + across
        wanted[first : first + 6, 1] = torch.tensor([0, 0.008, 0.008, 0, -0.008, -0.008])
    landmarks = torch.cdist(wanted, template).argmin(1)
    return HeadModel(
        name="egg",
        template=template,
        triangles=triangles,
        region=torch.zeros(len(triangles), dtype=torch.int64),
        uv=torch.zeros(1, 2),
        triangle_uv=torch.zeros_like(triangles),
        identity=0.02 * template[None],
        expression=torch.zeros(0, len(template), 3),
        expression_names=(),
        landmarks=landmarks,
    )


@pytest.fixture(scope="module", params=["egg", "facekit"])
def model(request):
    if request.param == "egg":
        return request.getfixturevalue("egg")
    return read_head_model(request.getfixturevalue("shared_data") / "facekit" / "facekit.npz")


def people(model, seeds=SEEDS):
    draws = Draws(seeds)
    identity = 0.7 * draws.normal("identity", len(model.identity))
    return model.vertices(identity, torch.zeros(len(seeds), len(model.expression))), draws


@pytest.fixture(scope="module")
def worn(model):
    vertices, draws = people(model)
    return hair(model, vertices, draws)[0]


def cards(part):
    """[B, CARDS, RINGS, 3]"""
    return part.vertices[:, -CARDS * RINGS :].view(len(part.vertices), CARDS, RINGS, 3)


def test_shapes_and_sizes(worn):
    assert len(worn.triangles) <= 24_000
    assert worn.triangles.max() == worn.vertices.shape[1] - 1
    assert worn.vertices.shape == worn.place.shape == worn.along.shape
    assert all(torch.isfinite(x).all() for x in (worn.vertices, worn.place, worn.along))
    lengths = worn.along[worn.worn].norm(dim=-1)
    assert lengths.min() > 0.99 and lengths.max() < 1.01
    assert worn.vertices.abs().max() < 0.6


def test_a_sample_does_not_depend_on_its_batch(model, worn):
    for seed in (3, 17):
        vertices, draws = people(model, torch.tensor([seed]))
        alone = hair(model, vertices, draws)[0]
        torch.testing.assert_close(alone.vertices[0], worn.vertices[seed], atol=2e-5, rtol=0)
        torch.testing.assert_close(alone.place[0], worn.place[seed], atol=1e-5, rtol=0)


def test_the_same_twice(model, worn):
    vertices, draws = people(model)
    assert torch.equal(hair(model, vertices, draws)[0].vertices, worn.vertices)


def test_the_bald_wear_nothing(model, worn):
    choice = sample_style(Draws(SEEDS))
    assert torch.equal(worn.worn, choice != BALD)
    assert (choice == BALD).any()
    assert not worn.vertices[~worn.worn].any()


def test_who_is_bald_can_be_said(model):
    vertices, draws = people(model, torch.arange(16))
    bald = torch.arange(16) % 4 == 0
    part = hair(model, vertices, draws, bald=bald)[0]
    assert torch.equal(part.worn, ~bald)


def test_roots_lie_on_the_scalp(model, worn):
    vertices, _ = people(model)
    roots = cards(worn)[:, :, :2].mean(2)
    for sample in worn.worn.nonzero()[:6, 0]:
        # the nearest vertex is at most an edge away: eggs have edges of a centimetre
        distance = torch.cdist(roots[sample], vertices[sample]).amin(1)
        assert distance.max() < 0.009
    straight = roots[worn.worn][0]
    assert (hairline(straight, model) > -0.012).all()


def test_no_lock_passes_through_the_head(worn):
    middle = cards(worn)[worn.worn][:, :, 2:].reshape(-1, 3)
    inside = ((middle - torch.tensor([0.0, 0.01, 0.0])) / torch.tensor([0.058, 0.085, 0.075])).norm(dim=-1) < 1
    assert inside.float().mean() < 1e-4


def test_faces_stay_free_without_a_fringe(model):
    vertices, draws = people(model, torch.arange(400))
    part = hair(model, vertices, draws)[0]
    points = cards(part)[part.worn].flatten(1, 2)
    marks = vertices[part.worn][:, model.landmarks]
    eye_x, eye_y = marks[:, 36:42, 0].mean(1)[:, None].abs(), marks[:, 36:48, 1].mean(1)[:, None]
    cheeks = (
        (points[..., 0].abs() < eye_x)
        & (points[..., 1] < eye_y - 0.02)
        & (points[..., 1] > -0.09)
        & (points[..., 2] > 0.04)
    )
    assert cheeks.float().mean() < 5e-4


def test_fringes_cover_the_forehead(model):
    vertices, draws = people(model, torch.arange(300))
    part = hair(model, vertices, draws)[0]
    points = cards(part).flatten(1, 2)
    brows = vertices[:, model.landmarks[[19, 24]], 1].mean(1)[:, None]
    over = (points[..., 0].abs() < 0.03) & (points[..., 1] < brows + 0.03) & (points[..., 1] > brows - 0.03)
    covered = (over & (points[..., 2] > 0.06)).sum(1) > 20
    assert 0.12 < covered.float().mean() < 0.5


def test_women_wear_longer_hair(egg):
    vertices, draws = people(egg, torch.arange(200))
    lowest = [
        hair(egg, vertices, draws, female=torch.full((200,), sex))[0].vertices[..., 1].amin(1).mean()
        for sex in (False, True)
    ]
    assert lowest[1] < lowest[0] - 0.04


def test_shares_of_styles():
    for shares in list(zip(*STYLES, strict=True))[:2]:
        assert sum(shares) == pytest.approx(1, abs=0.011)
    assert all(isinstance(style, Style) for style in STYLES)


def test_the_hairline_is_above_brows_and_below_the_crown(model):
    marks = model.template[model.landmarks]
    assert (hairline(marks, model)[17:] < 0).all()
    crown = model.template[model.template[:, 1].argmax()][None]
    assert hairline(crown, model) > 0.02


def test_material(worn):
    draws = Draws(SEEDS)
    sample = torch.arange(len(SEEDS)).repeat_interleave(50)
    pick = torch.arange(0, worn.place.shape[1], worn.place.shape[1] // 50)[:50]
    place, along = worn.place[:, pick].flatten(0, 1), worn.along[:, pick].flatten(0, 1)
    colour = torch.full((len(SEEDS), 3), 0.1)
    made = hair_material(place, along, sample, colour, draws)
    assert made.albedo.shape == (len(sample), 3) and made.albedo.min() > 0 and made.albedo.max() < 1
    assert made.albedo.std() > 0.01
    alone = hair_material(place[:50], along[:50], sample[:50], colour[:1], draws.of(torch.tensor([0])))
    torch.testing.assert_close(alone.albedo, made.albedo[:50])


def test_lashes_lie_at_the_lids(model):
    vertices, draws = people(model)
    part = lashes(model, vertices, draws)
    assert part.worn.all() and torch.isfinite(part.vertices).all()
    assert part.vertices.shape[1] == 2 * 5 * (UPPER + LOWER)
    lids = vertices[:, model.landmarks[36:48]]
    distance = torch.cdist(part.vertices, lids).amin(-1)
    assert distance.max() < 0.02
    upper = part.vertices[:, : 5 * UPPER].view(len(SEEDS), UPPER, 5, 3)
    assert (upper[:, :, 4, 2] > upper[:, :, 0, 2]).all()  # tips lie in front of their roots
    lengths = (upper[:, :, 4] - upper[:, :, :2].mean(2)).norm(dim=-1)
    assert lengths.min() > 0.001 and lengths.max() < 0.013


def test_lashes_move_with_the_lids(model):
    vertices, draws = people(model)
    moved = vertices + torch.tensor([0.0, 0.01, 0.003])
    difference = lashes(model, moved, draws).vertices - lashes(model, vertices, draws).vertices
    torch.testing.assert_close(difference, torch.tensor([0.0, 0.01, 0.003]).expand_as(difference), atol=1e-5, rtol=0)


def test_lash_material_is_dark():
    draws, place = Draws(torch.arange(2)), torch.rand(10, 3)
    made = lashes_material(place, torch.arange(10) % 2, torch.full((2, 3), 0.1), draws)
    assert made.albedo.max() < 0.2


def test_wrong_shapes_are_refused(egg):
    vertices, draws = people(egg, torch.arange(2))
    for build in (hair, lashes):
        with pytest.raises(ValueError, match=r"expected vertices \[2"):
            build(egg, vertices[:, 1:], draws)
