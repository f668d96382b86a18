"""Lenses over the picture: they dim once, mirror what shines, show where nothing hides them, cost others nothing."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from casfne.capture.draws import Draws
from casfne.capture.lighting.shadows import Lights
from casfne.capture.optics.camera import Camera
from casfne.capture.optics.framing import training_crop
from casfne.capture.people.anny import anny_model
from casfne.capture.portraits import Setting, render
from casfne.capture.scene import Scene, Studio, invite, pose, rotation
from casfne.capture.wear import glare, glasses
from casfne.capture.wear.glare import behind_lenses
from casfne.capture.wear.glasses import lens_looks

SIZE, BATCH, SEED = 96, 8, 3


@pytest.fixture(scope="module")
def studio() -> Studio:
    return Studio([anny_model()])


@pytest.fixture(scope="module")
def worn(studio: Studio) -> tuple[Scene, Camera]:
    """Eight frontal people, all with glasses: some clear, some tinted, some dark."""
    with pytest.MonkeyPatch.context() as patch:
        for name, share in (("SHARE", 1.0), ("SUNGLASSES", 0.3), ("TINTED", 0.5)):
            patch.setattr(glasses, name, share)
        draws = Draws.numbered(SEED, range(BATCH), studio.device)
        people = invite(studio, 0, draws.sub("who"), draws.sub("moment"))
        zero = torch.zeros(BATCH)
        scene = pose(people, rotation(zero, zero, zero))
    one = torch.ones(BATCH)
    return scene, training_crop(SIZE).camera(scene.landmarks, one, one, torch.zeros(BATCH, 2))


@pytest.fixture(autouse=True)
def kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lenses are asked again what they are."""
    monkeypatch.setattr(glasses, "SUNGLASSES", 0.3)
    monkeypatch.setattr(glasses, "TINTED", 0.5)


def dark(colour: float = 0.0, towards: tuple[float, float, float] = (0.0, 0, 1), ambient: float = 0.0) -> Lights:
    """One distant light of 0.1 radians, and even surroundings of radiance ``ambient``."""
    place = functional.normalize(torch.tensor(towards), dim=0).expand(BATCH, 1, 3)
    round_about = torch.zeros(BATCH, 9, 3)
    round_about[:, 0] = ambient / 0.282095
    near, size = torch.zeros(BATCH, 1, dtype=torch.bool), torch.full((BATCH, 1), 0.1)
    return Lights(place, near, torch.full((BATCH, 1, 3), colour), size, round_about)


def layer(worn: tuple[Scene, Camera], lights: Lights, value: float = 1.0, depth: float = 5.0, times: int = 2) -> Tensor:
    """A flat picture behind the lenses."""
    flat, far = torch.full((BATCH, 3, SIZE, SIZE), value), torch.full((BATCH, 1, SIZE, SIZE), depth)
    return behind_lenses(flat, far, *worn, lights, times)


def clear(scene: Scene) -> Tensor:
    return scene.people.glasses.lens.worn & ~scene.people.glasses.lens_opaque


def eyes(worn: tuple[Scene, Camera]) -> Tensor:
    """The middles of both eyes in the picture, int64 [B, 2, 2] (x, y)."""
    scene, camera = worn
    seen = camera.project(scene.landmarks)[..., :2]
    return torch.stack([seen[:, 36:42].mean(1), seen[:, 42:48].mean(1)], 1).round().long()


def at(picture: Tensor, places: Tensor) -> Tensor:
    """Values [B, K, 3] at pixels [B, K, 2]."""
    batch = torch.arange(len(picture))[:, None].expand(places.shape[:2])
    return picture[batch, :, places[..., 1], places[..., 0]]


def test_people_of_all_kinds_were_asked(worn: tuple[Scene, Camera]) -> None:
    assert set(lens_looks(worn[0].people.who).kind.tolist()) == {0, 1, 2}
    assert torch.equal(clear(worn[0]), lens_looks(worn[0].people.who).kind < 2)


def test_what_lies_behind_is_dimmed_once_before_both_eyes(worn: tuple[Scene, Camera]) -> None:
    seen, mine = at(layer(worn, dark()), eyes(worn)), clear(worn[0])
    expected = lens_looks(worn[0].people.who).transmission[:, None].expand(-1, 2, -1)
    assert torch.allclose(seen[mine], expected[mine], atol=1e-5)
    assert (seen[~mine] == 1).all(), "dark lenses are meshes of their own"


def test_surroundings_are_mirrored_by_reflectance(worn: tuple[Scene, Camera]) -> None:
    seen, mine = at(layer(worn, dark(ambient=2.0), value=0.0), eyes(worn)), clear(worn[0])
    share = lens_looks(worn[0].people.who).reflectance[:, None, None] * torch.ones(1, 2, 3)
    assert torch.allclose(seen[mine], 2 * share[mine], rtol=0.3)  # a fit
    assert (seen[mine] > 1.5 * share[mine]).all() and not seen[~mine].any()


def test_a_light_in_front_is_mirrored_to_the_camera_and_one_beside_is_not(worn: tuple[Scene, Camera]) -> None:
    lit = [layer(worn, dark(1.0, (x, -0.25, 1.0)), value=0.0).amax((1, 2, 3))[clear(worn[0])] for x in (0.0, 8.0)]
    # lenses lean forward, so they mirror what is a little below the camera
    assert (lit[0] > 0.3).float().mean() > 0.6 and lit[1].max() < 1e-3


@pytest.mark.parametrize("square", [True, False])
@pytest.mark.parametrize("size", [0.02, 0.1, 0.4])
def test_an_image_carries_the_lights_irradiance(size: float, square: bool) -> None:
    step = size / 60
    across = torch.arange(-120, 121) * step
    x, y = (v.flatten() for v in torch.meshgrid(across, across, indexing="ij"))
    middle = functional.normalize(torch.tensor([0.3, 0.4, 0.8]), dim=0)
    right = functional.normalize(torch.linalg.cross(torch.tensor([0.0, 1, 1e-3]), middle), dim=0)
    up = torch.linalg.cross(middle, right)
    plane = x[:, None] * right + y[:, None] * up
    mirror = middle * (1 - plane.square().sum(-1, keepdim=True)).clamp_min(0).sqrt() + plane
    every = torch.ones(len(mirror))
    radiance = glare._disc(mirror, middle.expand_as(mirror), every * size, every > 0 if square else every < 0)
    # in a plane across the light's direction a patch is its solid angle times its cosine; a white wall shows that / pi
    assert float(radiance.sum() * step**2 / math.pi) == pytest.approx(1.0, abs=0.06)


def test_what_is_nearer_hides_a_lens(worn: tuple[Scene, Camera]) -> None:
    assert torch.equal(layer(worn, dark(1.0, ambient=1.0), depth=0.5), torch.ones(BATCH, 3, SIZE, SIZE))


def test_only_lenses_change_the_picture(worn: tuple[Scene, Camera]) -> None:
    changed = (layer(worn, dark()) != 1).any(1)
    share = changed.flatten(1).float().mean(1)
    assert ((share > 0.03) & (share < 0.35))[clear(worn[0])].all() and not share[~clear(worn[0])].any()
    rows = changed.any(2).nonzero()[:, 1]
    assert rows.min() > 0.15 * SIZE and rows.max() < 0.75 * SIZE


def test_edges_are_shares_of_pixels(worn: tuple[Scene, Camera]) -> None:
    """A finer look at the same lenses has the same mean, and more values between."""
    coarse, fine = (layer(worn, dark(), times=t)[clear(worn[0])] for t in (1, 4))
    assert torch.allclose(coarse.mean((1, 2, 3)), fine.mean((1, 2, 3)), atol=2e-3)
    assert all(len(f.unique()) > len(c.unique()) for c, f in zip(coarse, fine, strict=True))


def test_a_sample_does_not_depend_on_its_batch(worn: tuple[Scene, Camera], studio: Studio) -> None:
    together = layer(worn, dark(1.0, (0.0, -0.25, 1), ambient=0.5))
    draws = Draws.numbered(SEED, [5], studio.device)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(glasses, "SHARE", 1.0)
        people = invite(studio, 0, draws.sub("who"), draws.sub("moment"))
        scene = pose(people, rotation(*torch.zeros(3, 1)))
    one = torch.ones(1)
    camera = training_crop(SIZE).camera(scene.landmarks, one, one, torch.zeros(1, 2))
    lights = dark(1.0, (0.0, -0.25, 1), ambient=0.5)
    own = Lights(*(getattr(lights, name)[:1] for name in ("place", "near", "colour", "size", "ambient")))
    flat, far = torch.ones(1, 3, SIZE, SIZE), torch.full((1, 1, SIZE, SIZE), 5.0)
    alone = behind_lenses(flat, far, scene, camera, own, 2)
    assert ((alone[0] - together[5]).abs() < 1e-2).float().mean() > 0.995


def test_gloss_surroundings_and_accessories_can_be_left_out(worn: tuple[Scene, Camera]) -> None:
    flat, far = torch.zeros(BATCH, 3, SIZE, SIZE), torch.full((BATCH, 1, SIZE, SIZE), 5.0)
    lights = dark(1.0, (0.0, -0.25, 1), ambient=1.0)
    assert not behind_lenses(flat, far, *worn, lights, 1, ("gloss",)).any()
    bare = behind_lenses(flat, far, *worn, lights, 1, ("surroundings",))
    assert torch.equal(bare, behind_lenses(flat, far, *worn, replace(lights, ambient=lights.ambient * 0), 1))
    assert behind_lenses(flat, far, *worn, lights, 1, ("accessories",)) is flat


def test_nobody_with_lenses_costs_nothing(worn: tuple[Scene, Camera], monkeypatch: pytest.MonkeyPatch) -> None:
    scene, camera = worn
    every = torch.ones(BATCH, dtype=torch.bool)
    blind = replace(scene, people=replace(scene.people, glasses=scene.people.glasses._replace(lens_opaque=every)))
    monkeypatch.setattr(glare, "lens_looks", lambda draws: pytest.fail("looked at lenses"))
    flat = torch.ones(BATCH, 3, SIZE, SIZE)
    assert behind_lenses(flat, flat[:, :1], blind, camera, dark(), 2) is flat


def test_portraits_have_lenses_and_keep_their_truth(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glasses, "SHARE", 1.0)
    setting = Setting(training_crop(48))
    with_lenses = render(studio, 4, range(6), setting, supersample=1)
    monkeypatch.setattr("casfne.capture.portraits.behind_lenses", lambda linear, *others: linear)
    without = render(studio, 4, range(6), setting, supersample=1)
    assert (with_lenses.image != without.image).flatten(1).any(1).sum() >= 3
    for name in ("normal", "depth", "classes", "albedo"):
        assert torch.equal(getattr(with_lenses, name), getattr(without, name)), name
