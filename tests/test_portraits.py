"""Portraits: they follow from seed and number alone, their truth is that of the picture, and each ingredient counts."""

from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from test_raster import sphere
from torch import Tensor
from torch.nn import functional

from casfne.capture.draws import Draws
from casfne.capture.lighting.light import sample_lights
from casfne.capture.lighting.material import BACKGROUND, BODY, FACE_CLASS, HAIR_CLASS, OCCLUDER
from casfne.capture.lighting.shadows import Lights
from casfne.capture.optics.camera import Camera
from casfne.capture.optics.framing import training_crop
from casfne.capture.people.anny import anny_model
from casfne.capture.people.heads import HeadModel, read_head_model
from casfne.capture.portraits import FAR, Portraits, Setting, lit, render, sample_angles
from casfne.capture.render import from_light, observe, shadows
from casfne.capture.scene import INGREDIENTS, Scene, Studio, invite, pose, rotation
from casfne.capture.wear.parts import HAT, Part
from casfne.errors import InputError
from casfne.normals import angle_deg, recognise_frame

SIZE, SEED = 64, 3
SETTING = Setting(training_crop(SIZE))
FRONTAL = Setting(training_crop(SIZE), yaw_deg=0, pitch_deg=0, roll_deg=0, zoom=(1, 1), shift=0)
NUMBERS = range(10)
NOSE_TIP, INNER_LIPS = 30, 60


@pytest.fixture(scope="module", params=["anny", "facekit"])
def model(request: pytest.FixtureRequest) -> HeadModel:
    """Each provider's head."""
    if request.param == "anny":
        return anny_model()
    return read_head_model(request.getfixturevalue("shared_data") / "facekit" / "facekit.npz")


@pytest.fixture(scope="module")
def studio(model: HeadModel) -> Studio:
    return Studio([model])


@pytest.fixture(scope="module")
def made(studio: Studio) -> Portraits:
    return render(studio, SEED, NUMBERS, SETTING)


@pytest.fixture(scope="module")
def frontal(model: HeadModel) -> Portraits:
    """Faces that look into the camera, at rest, with nothing before them."""
    return render(Studio([model], without=("hair", "accessories", "expression")), SEED, NUMBERS, FRONTAL)


def faces(made: Portraits) -> Tensor:
    return made.classes[:, 0] == FACE_CLASS


def differences(a: Tensor, b: Tensor) -> Tensor:
    return (a.float() - b.float()).abs()


def assert_equal(one: Portraits, other: Portraits) -> None:
    for field in fields(Portraits):
        a, b = getattr(one, field.name), getattr(other, field.name)
        parts = [(a, b)] if isinstance(a, Tensor) else [(getattr(a, f.name), getattr(b, f.name)) for f in fields(a)]
        assert all(torch.equal(x, y) for x, y in parts), field.name


def assert_alike(one: Portraits, other: Portraits) -> None:
    """The same truth; in the picture, a block of JPEG may round the other way."""
    for name in ("angles_deg", "landmarks", "classes", "normal", "depth"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name
    assert differences(one.albedo, other.albedo).max() < 1e-6
    apart = differences(one.image, other.image)
    assert (apart <= 1).float().mean() > 0.99 and apart.mean() < 0.1


def of(made: Portraits, index: list[int]) -> Portraits:
    """Some of the portraits."""
    values = {f.name: getattr(made, f.name) for f in fields(Portraits) if f.name != "lights"}
    lights = Lights(*(getattr(made.lights, f.name)[index] for f in fields(Lights)))
    return Portraits(**{name: value[index] for name, value in values.items()}, lights=lights)


# --- whose they are ---


def test_the_same_seed_and_numbers_are_the_same_to_the_bit(studio: Studio, made: Portraits) -> None:
    assert_equal(render(studio, SEED, NUMBERS, SETTING), made)


@pytest.mark.parametrize("numbers", [[4], [7, 2], [9, 0, 5]], ids=str)
def test_a_portrait_does_not_depend_on_its_batch_nor_on_the_order(
    studio: Studio, made: Portraits, numbers: list[int]
) -> None:
    assert_alike(render(studio, SEED, numbers, SETTING), of(made, numbers))


def test_other_seeds_and_numbers_are_other_portraits(studio: Studio, made: Portraits) -> None:
    other = render(studio, SEED + 1, range(3), SETTING)
    pairs = [(other, i, made, i) for i in range(3)] + [(made, 0, made, 1), (made, 1, made, 2)]
    for a, i, b, k in pairs:
        assert differences(a.image[i], b.image[k]).mean() > 5
        assert differences(a.normal[i], b.normal[k]).mean() > 0.02


def test_models_take_turns_by_number(shared_data: Path) -> None:
    first, second = anny_model(), read_head_model(shared_data / "facekit" / "facekit.npz")
    both = render(Studio([first, second]), SEED, [3, 2, 0, 1], SETTING)
    alone = [render(Studio([m]), SEED, n, SETTING) for m, n in ((second, [3]), (first, [2, 0]), (second, [1]))]
    expected = torch.cat([a.normal for a in alone])
    assert torch.equal(both.normal, expected)
    assert differences(both.landmarks, torch.cat([a.landmarks for a in alone])).max() < 1e-3


# --- truth ---


def test_forms_are_those_promised(made: Portraits) -> None:
    count, square = len(NUMBERS), (SIZE, SIZE)
    assert made.image.shape == (count, 3, *square) and made.image.dtype == torch.uint8
    assert made.normal.shape == made.albedo.shape == (count, 3, *square)
    assert made.depth.shape == made.classes.shape == (count, 1, *square) and made.classes.dtype == torch.uint8
    assert made.landmarks.shape == (count, 68, 2) and made.angles_deg.shape == (count, 3)
    for name in ("normal", "depth", "albedo", "landmarks"):
        assert getattr(made, name).dtype == torch.float32 and getattr(made, name).isfinite().all(), name
    assert made.albedo.min() >= 0 and made.albedo.max() <= 1


def test_normals_are_unit_where_something_is_and_zero_elsewhere(made: Portraits) -> None:
    length, there = made.normal.norm(dim=1), made.classes[:, 0] != BACKGROUND
    assert (length[there] - 1).abs().max() < 1e-4 and not length[~there].any()
    assert (made.depth[:, 0][~there] == FAR).all()
    assert (made.depth > 0.2).all() and made.depth[:, 0][there].max() < 5


def test_every_picture_shows_a_face_that_faces_the_camera(made: Portraits) -> None:
    face = faces(made)
    assert face.flatten(1).float().mean(1).min() > 0.03
    assert face.float().mean() > 0.2
    towards = made.normal[:, 2][face]
    assert (towards > 0).float().mean() > 0.99 and towards.mean() > 0.6
    for normal, mask in zip(made.normal, face, strict=True):
        frame, lead = recognise_frame(normal.permute(1, 2, 0).numpy(), mask.numpy())
        assert frame == "opengl" and lead > 0.1


def test_all_classes_come(made: Portraits) -> None:
    assert set(made.classes.unique().tolist()) >= {BACKGROUND, FACE_CLASS, HAIR_CLASS, BODY}
    assert (made.classes <= BODY).all()


def test_pictures_are_neither_black_nor_white(made: Portraits) -> None:
    for image, face in zip(made.image.float().mean(1), faces(made), strict=True):
        assert 25 < image[face].mean() < 235 and image.std() > 8


def test_landmarks_lie_on_the_face(frontal: Portraits) -> None:
    inner = frontal.landmarks[:, 17:].round().long()  # the jaw's lie on the rim
    assert (inner >= 0).all() and (inner < SIZE).all()
    batch = torch.arange(len(inner))[:, None].expand(inner.shape[:2])
    seen = frontal.classes[batch, 0, inner[..., 1], inner[..., 0]]
    between_lips = (seen == BODY) & (torch.arange(17, 68) >= INNER_LIPS)  # a gap of a pixel shows the mouth's inside
    assert ((seen == FACE_CLASS) | (seen == HAIR_CLASS) | between_lips).all(), "skin, or a beard"
    assert (seen == FACE_CLASS).float().mean() > 0.9


def test_most_landmarks_lie_in_any_picture(made: Portraits) -> None:
    inside = ((made.landmarks > -0.5) & (made.landmarks < SIZE - 0.5)).all(-1)
    assert inside.float().mean() > 0.9


def test_the_nose_is_nearest_in_frontal_faces(frontal: Portraits) -> None:
    assert not frontal.angles_deg.any()
    depth = torch.where(faces(frontal), frontal.depth[:, 0], torch.inf).flatten(1)
    nearest = depth.argmin(1)
    place = torch.stack([nearest % SIZE, nearest // SIZE], -1)
    assert (place - frontal.landmarks[:, NOSE_TIP]).norm(dim=-1).max() < 4


def test_depth_and_normals_agree(frontal: Portraits) -> None:
    """The slope of depth over the middle of a face is that of its normals, to what relief and pixels allow."""
    step = slice(24, 40)
    depth = -frontal.depth[:, 0]
    for axis, dim in ((0, -1), (1, -2)):
        slope = (depth.roll(-1, dim) - depth.roll(1, dim))[:, step, step].flatten()
        n = (frontal.normal[:, axis] / frontal.normal[:, 2].clamp_min(0.2))[:, step, step].flatten()
        agreement = torch.corrcoef(torch.stack([slope, -n if axis == 0 else n]))[0, 1]
        assert agreement > 0.6, axis


def test_angles_turn_the_face_as_they_say(model: HeadModel) -> None:
    bare = Studio([model], without=("hair", "accessories", "expression"))
    turned = render(bare, SEED, range(8), Setting(training_crop(SIZE), yaw_deg=35, pitch_deg=0, roll_deg=0))
    eyes, nose = turned.landmarks[:, 36:48].mean(1), turned.landmarks[:, NOSE_TIP]
    sine = turned.angles_deg[:, 0].deg2rad().sin()
    assert torch.corrcoef(torch.stack([(nose - eyes)[:, 0], sine]))[0, 1] > 0.97  # to the right where it is positive
    nods = render(bare, SEED, range(8), Setting(training_crop(SIZE), yaw_deg=0, pitch_deg=20, roll_deg=0))
    mean = torch.stack([n[1, f].mean() for n, f in zip(nods.normal, faces(nods), strict=True)])
    assert torch.corrcoef(torch.stack([mean, nods.angles_deg[:, 1]]))[0, 1] > 0.8  # up where it is positive
    rolled = render(bare, SEED, range(8), Setting(training_crop(SIZE), yaw_deg=0, pitch_deg=0, roll_deg=30))
    eyes = rolled.landmarks[:, 42:48].mean(1) - rolled.landmarks[:, 36:42].mean(1)
    assert torch.allclose(torch.atan2(-eyes[:, 1], eyes[:, 0]).rad2deg(), rolled.angles_deg[:, 2], atol=4)


def test_angles_keep_to_their_setting() -> None:
    setting = replace(SETTING, yaw_deg=20.0, pitch_deg=10.0, roll_deg=5.0)
    angles = sample_angles(setting, Draws.numbered(1, range(5000), torch.device("cpu")))
    bound = torch.tensor([20.0, 10, 5])
    assert (angles.abs().amax(0) <= 2.5 * bound).all() and (angles.std(0) / bound - 0.97).abs().max() < 0.05
    assert (angles.mean(0).abs() < 0.06 * bound).all()


# --- light ---


def scene_of(studio: Studio, count: int = 4) -> tuple[Scene, Camera]:
    draws = Draws.numbered(SEED, range(count), studio.device)
    people = invite(studio, 0, draws.sub("who"), draws.sub("moment"))
    scene = pose(people, rotation(*sample_angles(SETTING, draws).unbind(-1)))
    ones = torch.ones(count)
    return scene, training_crop(SIZE).camera(scene.landmarks, ones, ones, torch.zeros(count, 2))


def one_light(count: int, towards: tuple[float, float, float]) -> Lights:
    """Distant, white, a point; nothing else shines."""
    place = functional.normalize(torch.tensor(towards), dim=0).expand(count, 1, 3)
    near = torch.zeros(count, 1, dtype=torch.bool)
    return Lights(place, near, torch.ones(count, 1, 3), torch.zeros(count, 1), torch.zeros(count, 9, 3))


@pytest.mark.parametrize("supersample", [1, 2])
@pytest.mark.parametrize("towards", [(0.0, 0.0, 1.0), (-0.8, 0.1, 0.5), (0.3, 0.8, 0.4)])
def test_without_all_else_a_picture_is_albedo_times_cosine(
    studio: Studio, towards: tuple[float, float, float], supersample: int
) -> None:
    scene, camera = scene_of(studio)
    surface = observe(scene, camera, supersample, ("relief", "gloss"))
    matte = replace(surface.material, scatter=torch.zeros_like(surface.material.scatter))
    surface = replace(surface, material=matte)
    lights = one_light(4, towards)
    visible = torch.ones(len(surface.points))
    bare = replace(surface, along=torch.zeros_like(surface.along))  # strands are no matte surfaces
    picture = surface.fragments.picture(from_light(bare, lights, 0, visible))
    whole = surface.fragments.front(surface.fragments.share[:, None])[:, 0] == 1
    normal, albedo = surface.fragments.front(surface.normals), surface.fragments.picture(matte.albedo)
    cosine = (normal * lights.place[0, 0][:, None, None]).sum(1, keepdim=True).clamp_min(0)
    error = (picture - albedo * cosine).abs().amax(1)
    assert whole.float().mean() > 0.3 and error[whole].max() < 1 / 255


@pytest.mark.parametrize("supersample", [1, 2])
def test_normals_of_a_sphere_are_those_of_the_formula(supersample: int) -> None:
    """A ball in the place of all that a studio draws, seen through it."""
    scene, _ = scene_of(Studio([anny_model()]), 1)
    vertices, triangles = sphere(0.1, 400, 800)
    nothing = torch.zeros_like(vertices)
    ball = Part(HAT, vertices, triangles, vertices, nothing, torch.ones(1, dtype=torch.bool))
    scene = replace(scene, vertices=vertices, place=vertices, along=nothing, triangles=triangles)
    scene = replace(scene, parts=(ball,), part=torch.ones(len(triangles), dtype=torch.int64))
    camera = Camera(torch.tensor([2.0]), torch.tensor([1200.0]), torch.full((1, 2), 63.5), 128, 128)
    surface = observe(scene, camera, supersample)
    found, there = surface.fragments.front(surface.normals)[0], surface.fragments.largest[0] >= 0
    grid = (torch.arange(128, dtype=torch.float64) - 63.5) / 1200
    up, right = torch.meshgrid(-grid, grid, indexing="ij")
    ray = functional.normalize(torch.stack([right, up, -torch.ones_like(up)]), dim=0)
    away = 2 * -ray[2]  # along the ray to where it is nearest to the ball's middle
    half = (away**2 - 4 + 0.1**2).clamp_min(0).sqrt()
    expected = (ray * (away - half) + torch.tensor([0.0, 0, 2])[:, None, None]) / 0.1
    inner = there & (expected[2] > 0.4)
    assert inner.sum() > 8000
    error = angle_deg(found[:, inner].T.numpy(), expected[:, inner].T.numpy())
    assert error.max() < 0.05, error.max()
    view = surface.fragments.front(surface.view)[0]
    assert (view[:, inner] + ray[:, inner]).abs().max() < 1e-3


def test_shadows_only_darken_and_do(studio: Studio) -> None:
    scene, camera = scene_of(studio)
    surface = observe(scene, camera, 1)
    lights = sample_lights(Draws.numbered(SEED, range(4), studio.device))
    visible = shadows(surface, scene, lights)
    assert visible.min() >= 0 and visible.max() <= 1 and (visible < 0.5).float().mean() > 0.01
    with_them, without = (lit(surface, scene, lights, left) for left in ((), ("shadows",)))
    assert (with_them <= without * (1 + 1e-5) + 1e-6).all() and (with_them < 0.9 * without).any()
    assert with_them.min() >= 0


# --- ingredients ---


@pytest.mark.parametrize("name", INGREDIENTS)
def test_each_ingredient_changes_the_picture_and_truth_only_where_it_should(
    model: HeadModel, made: Portraits, name: str
) -> None:
    other = render(Studio([model], without=(name,)), SEED, NUMBERS, SETTING)
    assert differences(other.image, made.image).mean() > 0.02
    assert torch.equal(other.angles_deg, made.angles_deg)
    if name in ("lens", "gloss", "shadows", "surroundings"):
        for truth in ("normal", "depth", "classes", "albedo", "landmarks"):
            assert torch.equal(getattr(other, truth), getattr(made, truth)), truth
    if name == "relief":
        assert torch.equal(other.depth, made.depth) and torch.equal(other.classes, made.classes)
        cosine = (other.normal * made.normal).sum(1)[faces(made)]
        assert 0.2 < cosine.clamp(-1, 1).acos().rad2deg().mean() < 15
    if name == "hair":
        assert (other.classes != HAIR_CLASS).float().mean() > (made.classes != HAIR_CLASS).float().mean()
    if name == "accessories":
        assert not (other.classes == OCCLUDER).any()
    if name == "expression":
        assert (other.landmarks - made.landmarks).norm(dim=-1).mean() > 0.05


def test_an_unknown_ingredient_is_named(model: HeadModel) -> None:
    with pytest.raises(InputError, match="'salt': expected one of expression, hair"):
        Studio([model], without=("gloss", "salt"))


# --- memory ---


def test_memory_does_not_grow() -> None:
    studio, small = Studio([anny_model()]), Setting(training_crop(32))
    for number in range(20):
        render(studio, SEED, [number], small, supersample=1)
    before = resident()
    for number in range(60):
        render(studio, SEED, [number], small, supersample=1)
    assert resident() - before < 50e6


def resident() -> int:
    """Bytes that this process holds."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("no /proc/self/statm here")
    return int(statm.read_text().split()[1]) * 4096
