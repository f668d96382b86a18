"""Skin's colours, the fields of a head, the looks of people, and paint."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch

from casfne.capture.draws import Draws
from casfne.capture.lighting.material import BODY, FACE_CLASS, HAIR_CLASS
from casfne.capture.people import fields as field_module
from casfne.capture.people.fields import FIELDS, OPENNESS, fields
from casfne.capture.people.heads import FACE, HEAD, MOUTH, REGIONS, SCLERA, TEETH
from casfne.capture.people.looks import classes, paint, sample_looks
from casfne.capture.people.openness import openness
from casfne.capture.people.skin import BLOOD, MELANIN, reflectance, skin_colour


def one(value):
    return torch.tensor([value])


@pytest.mark.parametrize(
    "melanin, blood, low, high",
    [
        (0.015, 0.012, (0.58, 0.38, 0.28), (0.70, 0.47, 0.37)),  # as measured on pale skin
        (0.43, 0.03, (0.10, 0.055, 0.03), (0.17, 0.08, 0.06)),  # and on the darkest
        (0.12, 0.02, (0.30, 0.16, 0.09), (0.45, 0.26, 0.16)),
    ],
)
def test_skin_has_measured_colours(melanin, blood, low, high):
    colour = skin_colour(one(melanin), one(blood))[0]
    assert (colour >= torch.tensor(low)).all() and (colour <= torch.tensor(high)).all(), colour


def test_more_melanin_or_blood_is_darker_and_blood_is_redder():
    melanin = torch.linspace(*MELANIN, 30)
    for blood in (0.005, 0.02, 0.08):
        assert (skin_colour(melanin, torch.full((30,), blood)).diff(dim=0) < 0).all()
    colour = skin_colour(torch.full((30,), 0.03), torch.linspace(*BLOOD, 30))
    assert (colour.diff(dim=0) < 0).all()
    assert ((colour[:, 0] / colour[:, 1]).diff() > 0).all()


def test_skin_is_redder_than_green_than_blue():
    melanin = torch.linspace(*MELANIN, 20)[:, None].expand(20, 20).flatten()
    red, green, blue = skin_colour(melanin, torch.linspace(*BLOOD, 20).repeat(20)).unbind(-1)
    assert (red > green).all() and (green > blue).all()


def test_the_table_agrees_with_the_formula():
    melanin = MELANIN[0] * (MELANIN[1] / MELANIN[0]) ** torch.rand(500, generator=torch.Generator().manual_seed(0))
    blood = BLOOD[0] * (BLOOD[1] / BLOOD[0]) ** torch.rand(500, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(reflectance(melanin, blood), skin_colour(melanin, blood), atol=2e-3, rtol=0)
    beyond = reflectance(one(5.0), one(0.0))  # held at the ends
    torch.testing.assert_close(beyond, skin_colour(one(MELANIN[1]), one(BLOOD[0])), atol=1e-4, rtol=0)


# --- fields ---

MARKS = {8: (0, -0.11, 0.094), 10: (0.031, -0.104, 0.077), 12: (0.057, -0.08, 0.051), 15: (0.073, -0.02, 0.029)}
MARKS |= {16: (0.074, 0.002, 0.026), 22: (0.012, 0.024, 0.097), 23: (0.024, 0.027, 0.094), 24: (0.038, 0.028, 0.088)}
MARKS |= {25: (0.049, 0.025, 0.080), 26: (0.058, 0.017, 0.069), 30: (0, -0.031, 0.12), 33: (0, -0.047, 0.105)}
MARKS |= {35: (0.013, -0.046, 0.098), 42: (0.018, -0.002, 0.082), 43: (0.028, 0.005, 0.085)}
MARKS |= {44: (0.039, 0.004, 0.083), 45: (0.045, 0, 0.076), 46: (0.039, -0.004, 0.082), 47: (0.027, -0.004, 0.084)}
MARKS |= {51: (0, -0.060, 0.108), 52: (0.007, -0.059, 0.107), 53: (0.017, -0.062, 0.102), 54: (0.025, -0.070, 0.092)}
MARKS |= {55: (0.018, -0.075, 0.099), 56: (0.010, -0.078, 0.104), 57: (0, -0.078, 0.105), 62: (0, -0.068, 0.102)}
MARKS |= {63: (0.010, -0.068, 0.101), 64: (0.022, -0.070, 0.091), 65: (0.011, -0.068, 0.1), 66: (0, -0.069, 0.102)}


def sphere(radius, centre, rings):
    """A closed mesh, counter-clockwise from outside: vertices, triangles."""
    up, turn = torch.meshgrid(
        torch.linspace(-1, 1, rings) * torch.pi / 2, torch.arange(2 * rings) * torch.pi / rings, indexing="ij"
    )
    points = torch.stack([up.cos() * turn.sin(), up.sin(), up.cos() * turn.cos()], -1).view(-1, 3) * radius
    at = torch.arange(len(points)).view(rings, -1)
    a, b, c, d = at[:-1], at[:-1].roll(-1, 1), at[1:].roll(-1, 1), at[1:]
    triangles = torch.cat([torch.stack(x, -1).view(-1, 3) for x in ((a, b, c), (a, c, d))])
    return points + torch.tensor(centre), triangles


@pytest.fixture(scope="module")
def model():
    """An egg with two eyes, and an average face's landmarks; weighs no action."""
    head, triangles = sphere(torch.tensor([0.08, 0.11, 0.095]), (0.0, 0.0, 0.0), 40)
    meshes, region = [(head, triangles)], [torch.full((len(triangles),), HEAD)]
    for side in (-1, 1):
        meshes.append(sphere(0.012, (side * 0.031, 0.0005, 0.07), 33))
        region.append(torch.full((len(meshes[-1][1]),), SCLERA))
    marks = torch.zeros(68, 3)
    for number, place in MARKS.items():
        marks[number] = torch.tensor(place)
    starts = [0, len(head), len(head) + len(meshes[1][0])]
    template = torch.cat([vertices for vertices, _ in meshes] + [marks])
    return SimpleNamespace(
        template=template,
        triangles=torch.cat([t + start for (_, t), start in zip(meshes, starts, strict=True)]),
        region=torch.cat(region),
        landmarks=torch.arange(68) + len(template) - 68,
        weight=lambda expression, name: expression[:, 0],
    )


@pytest.fixture(scope="module")
def known(model):
    return dict(zip(FIELDS, fields(model).T, strict=True))


def at_mark(known, number):
    return {name: float(value[len(value) - 68 + number]) for name, value in known.items()}


def test_fields_are_finite_and_shares_lie_in_0_1(known):
    assert all(value.isfinite().all() for value in known.values())
    shares = [n for n in FIELDS if n.endswith("_zone") or n in ("nose", "cheek", "oily", "ear", "open", "jaw")]
    assert len(shares) == 11
    assert all(known[name].min() >= 0 and known[name].max() <= 1.0001 for name in shares)


def test_fields_know_the_landmarks(known):
    assert at_mark(known, 62)["lips"] < -0.005 and abs(at_mark(known, 52)["lips"]) < 1e-4
    assert at_mark(known, 33)["lips"] > 0.008
    assert abs(at_mark(known, 24)["brow_across"]) < 1e-4
    assert 0.4 < at_mark(known, 24)["brow_along"] < 0.6
    assert abs(at_mark(known, 26)["brow_along"] - 1) < 0.02
    assert abs(at_mark(known, 44)["lid"]) < 1e-4
    assert at_mark(known, 30)["nose"] > 0.95
    assert at_mark(known, 57)["goatee"] > 0.5 > at_mark(known, 30)["goatee"]
    assert at_mark(known, 8)["neck"] < 0


def test_hair_grows_on_the_crown_not_on_the_face(model, known):
    assert known["hairline"][model.template[:, 1] > 0.105].min() > 0.005
    face = (model.template[:, 2] > 0.06) & (model.template[:, 1].abs() < 0.05)
    assert known["hairline"][face].max() < -0.01


def test_fields_are_alike_on_both_sides(model):
    mirrored = SimpleNamespace(**vars(model))
    mirrored.template = model.template.clone()
    keep = len(model.template) - 68
    mirrored.template[:keep, 0] *= -1
    mirrored.triangles = model.triangles.flip(-1)
    same = [i for i, name in enumerate(FIELDS) if not name.startswith(("wide", "narrow", "open"))]
    torch.testing.assert_close(fields(mirrored)[:keep, same], fields(model)[:keep, same], atol=1e-4, rtol=1e-3)


def test_openness_of_a_ball_and_of_a_bowl():
    ball, triangles = sphere(0.08, (0.0, 0.0, 0.0), 40)
    model = SimpleNamespace(template=ball, triangles=triangles, region=torch.full((len(triangles),), FACE))
    assert openness(model).min() > 0.9
    inside = SimpleNamespace(template=ball, triangles=triangles.flip(-1), region=model.region)
    assert openness(inside).max() < 0.25


# --- looks and paint ---


def looks_of(model, count, first=0):
    return sample_looks(model, torch.zeros(count, 1), Draws(torch.arange(first, first + count)))


def test_looks_do_not_depend_on_the_batch(model):
    many, few = looks_of(model, 7), looks_of(model, 2, first=4)
    for field in dataclasses.fields(many):
        assert torch.equal(getattr(many, field.name)[4:6], getattr(few, field.name)), field.name


def test_people_cover_the_human_range(model):
    looks = looks_of(model, 2000)
    shares = torch.histc(looks.melanin.log(), 5) / 2000
    assert shares.min() > 0.10 and 0.3 < shares[0] < 0.45
    dark = looks.melanin > 0.15
    brightness = looks.hair_colour.mean(-1)
    assert brightness[dark & (looks.grey == 0)].mean() < 0.5 * brightness[~dark & (looks.grey == 0)].mean()
    assert (looks.lipstick_strength[looks.sex == 0] > 0).float().mean() < 0.1
    assert not looks.bearded[looks.sex == 1].any() and 0.05 < looks.bearded[looks.sex == 0].float().mean() < 0.2
    old, young = looks.age > 0.7, looks.age < 0.2
    assert looks.smile[old].mean() > 4 * looks.smile[young].mean()


def test_skin_that_moves_folds(model):
    still = looks_of(model, 50)
    moving = sample_looks(model, torch.ones(50, 1), Draws(torch.arange(50)))
    for name in ("raised", "frown", "squint", "smile"):
        assert (getattr(moving, name) - getattr(still, name)).mean() > 0.2


def points(model, looks, count=4000):
    """Places on the head, their regions and fields, and samples."""
    generator = torch.Generator().manual_seed(3)
    vertex = torch.randint(0, len(model.template) - 68, (count,), generator=generator)
    sample = torch.randint(0, len(looks.age), (count,), generator=generator)
    where = model.template[vertex]
    region = torch.where(vertex < 40 * 80, HEAD, SCLERA)
    return where, region, fields(model)[vertex], sample


def test_paint_is_a_plausible_material_in_every_region(model):
    looks = looks_of(model, 5)
    where, _, field, sample = points(model, looks)
    for region in range(len(REGIONS)):
        material = paint(where, torch.full_like(sample, region), field, sample, looks)
        assert material.albedo.shape == (4000, 3)
        assert material.albedo.min() > 0.0 and material.albedo.max() < 0.95
        for name, low, high in (("specular", 0.01, 0.05), ("roughness", 0.02, 0.8), ("scatter", 0, 1), ("sheen", 0, 1)):
            value = getattr(material, name)
            assert value.shape == (4000,) and value.min() >= low and value.max() <= high, name


def test_paint_does_not_depend_on_the_batch(model):
    looks = looks_of(model, 5)
    where, region, field, sample = points(model, looks)
    third = sample == 3
    whole = paint(where, region, field, sample, looks)
    alone = paint(where[third], region[third], field[third], torch.zeros_like(sample[third]), looks_of(model, 1, 3))
    torch.testing.assert_close(whole.albedo[third], alone.albedo)
    torch.testing.assert_close(whole.roughness[third], alone.roughness)


def test_paint_refuses_fields_of_another_shape(model):
    looks = looks_of(model, 1)
    with pytest.raises(ValueError, match=rf"\[N, {len(FIELDS)}\]"):
        paint(torch.zeros(4, 3), torch.zeros(4).long(), torch.zeros(4, 5), torch.zeros(4).long(), looks)


def test_darker_people_are_darker(model):
    looks = dataclasses.replace(looks_of(model, 2), melanin=torch.tensor([0.02, 0.3]))
    where, region, field, sample = points(model, looks)
    cheek = (field[:, FIELDS.index("cheek")] > 0.3) & (region == HEAD)
    albedo = paint(where, region, field, sample, looks).albedo.mean(-1)
    assert albedo[cheek & (sample == 1)].mean() < 0.5 * albedo[cheek & (sample == 0)].mean()


def test_pupils_are_black_and_whites_are_white(model):
    looks = looks_of(model, 1)
    eye = model.template[model.triangles[model.region == SCLERA].unique()]
    index = model.triangles[model.region == SCLERA].unique()
    field = fields(model)[index]
    region, sample = torch.full_like(index, SCLERA), torch.zeros_like(index)
    albedo = paint(eye, region, field, sample, looks).albedo.mean(-1)
    radius = field[:, [FIELDS.index("eye_out"), FIELDS.index("eye_up")]].norm(dim=-1)
    assert albedo[radius < 0.0008].max() < 0.02
    assert albedo[(radius > 0.0075) & (radius < 0.009)].min() > 0.1


def test_classes_by_place_region_and_hair(model):
    looks = looks_of(model, 1)
    looks = dataclasses.replace(looks, scalp=one(1.0), recession=one(0.0), beard_length=one(0.003), jaw=one(0.0))
    looks = dataclasses.replace(looks, goatee=one(1.0), moustache=one(0.0))
    where = torch.zeros(5, 3)
    field = torch.zeros(5, len(FIELDS))
    columns = {name: i for i, name in enumerate(FIELDS)}
    field[:, columns["hairline"]] = torch.tensor([0.01, -0.05, -0.05, -0.05, -0.05])
    field[:, columns["neck"]] = torch.tensor([-0.1, -0.1, 0.01, -0.1, -0.1])
    field[:, columns["lips"]] = 0.02
    field[3, columns["goatee"]] = 1.0
    region, sample = torch.tensor([HEAD, FACE, HEAD, FACE, MOUTH]), torch.zeros(5).long()
    expected = [HAIR_CLASS, FACE_CLASS, BODY, HAIR_CLASS, BODY]
    assert classes(where, region, field, sample, looks).tolist() == expected
    bald = dataclasses.replace(looks, scalp=one(0.0), beard_length=one(0.0003))
    assert classes(where, region, field, sample, bald).tolist() == [FACE_CLASS, FACE_CLASS, BODY, FACE_CLASS, BODY]
    for other in (TEETH, SCLERA):
        assert set(classes(where, torch.full((5,), other), field, sample, looks).tolist()) == {FACE_CLASS}


def test_there_are_no_two_fields_of_one_name():
    assert len(set(FIELDS)) == len(FIELDS) and FIELDS[OPENNESS] == "open" and field_module.NOISES[0] == "wide_0"
