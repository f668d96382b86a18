"""Light: harmonics answer as they must, a photograph's own light is found, and relit faces are those of the studio."""

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.applied import DIRECTIONS, NEW, Face, faces, flat, psnr
from casfne.applied.lighting import Light, fit, functions
from casfne.applied.relight import SOFT, Relightable, picture
from casfne.capture.people.anny import anny_model
from casfne.capture.scene import Studio
from casfne.errors import InputError
from casfne.images import write_image
from casfne.normals import direction, normalise, sphere

RANDOM = np.random.default_rng(0)
AMBIENT = np.concatenate([np.full((1, 3), 3.0), RANDOM.normal(0, 0.8, (3, 3)), RANDOM.normal(0, 0.4, (5, 3))])
SKIN = np.array([0.5, 0.35, 0.25], np.float32)


@pytest.fixture(scope="module")
def ball() -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    return sphere(96)


@pytest.fixture(scope="module")
def studio_faces() -> list[Face]:
    new = [Light.directional(*angles, NEW, 0.1) for angles in DIRECTIONS]
    return faces(Studio([anny_model()]), 7, range(4), 96, new)


# --- shading ---


def test_the_nine_functions_are_the_integral_of_radiance_times_cosine() -> None:
    around = normalise(RANDOM.normal(size=(200_000, 3)))  # evenly over all directions
    n = normalise([[0, 0, 1], [1, 1, 1], [-2, 0.5, 0.3]])
    scale = functions(around)[:, :1] / functions(around)[0, 0]
    bands = np.repeat([1, 2 / 3, 1 / 4], [1, 3, 5])
    radiance = functions(around) / bands @ AMBIENT[:, 0] * scale[:, 0]
    answer = 4 * (np.maximum(n @ around.T, 0) @ radiance) / len(around)  # of a white surface: mean over 4 pi, over pi
    assert np.abs(functions(n) @ AMBIENT[:, 0] - answer).max() < 0.02 * np.abs(answer).max()


def test_one_light_is_the_cosine_and_fill_is_even(ball: tuple) -> None:
    n, mask = ball
    towards = direction(40, 20)
    expected = np.maximum(n @ towards, 0)[..., None] * np.array([1, 2, 3]) + 0.25
    assert np.abs(Light.directional(40, 20, (1, 2, 3), 0.25).shading(n) - expected)[mask].max() < 1e-5
    assert np.abs(Light.directional(40, 20, 2).times(0.5).shading(n) - expected[..., :1] + 0.25)[mask].max() < 1e-5


def test_an_even_panorama_lights_evenly_and_a_bright_side_lights_its_side(tmp_path, ball: tuple) -> None:
    n, mask = ball
    panorama = np.full((16, 32, 3), 128, np.uint8)
    write_image(tmp_path / "even.png", panorama)
    assert np.abs(Light.panorama(tmp_path / "even.png").shading(n)[mask] - 1).max() < 0.02
    panorama[:8], panorama[8:] = 255, 0
    write_image(tmp_path / "sky.png", panorama)
    sky = Light.panorama(tmp_path / "sky.png").shading(n)[..., 1]
    assert sky[5, 48] > 4 * sky[90, 48] and sky[mask].min() >= 0
    with pytest.raises(InputError, match=r"gone\.png"):
        Light.panorama(tmp_path / "gone.png")
    with pytest.raises(ValueError, match=r"\[9, 3\]"):
        Light.surroundings(np.zeros((3, 9)))


# --- the photograph's own light ---


def test_the_light_of_a_matte_ball_is_found_among_things_that_are_not_skin(ball: tuple) -> None:
    n, mask = ball
    light = Light.surroundings(AMBIENT)
    shading = light.shading(n)
    linear = 0.6 * SKIN * shading / shading[mask].max()
    linear[30:40, 20:45] *= 0.2  # brows
    linear[50:56, 60:66] = 0.9  # a highlight
    found = fit(linear.astype(np.float32), n, mask)
    expected = shading / shading[mask].mean(0)
    error = np.abs(found.light.shading(n) - expected)[mask]
    assert error.mean() < 0.03 and found.residual < 0.06
    assert found.albedo / found.albedo[0] == pytest.approx(
        SKIN * shading[mask].mean(0) / (SKIN * shading[mask].mean(0))[0], rel=0.05
    )


def test_what_the_fit_leaves_tells_good_normals_from_bad_but_not_a_flip(studio_faces: list[Face]) -> None:
    for face in studio_faces:
        linear = Relightable.of(face.photo, face.normal, face.mask).linear

        def left(normals: NDArray, linear: NDArray = linear, face: Face = face) -> float:
            return fit(linear, normals.astype(np.float32), face.mask).residual

        good = left(face.normal)
        noise = normalise(face.normal + RANDOM.normal(0, 0.5, face.normal.shape))
        assert left(noise) > 1.05 * good and left(flat(face.normal, face.mask)) > 1.1 * good
        assert left(face.normal * (1, -1, 1)) == pytest.approx(good, rel=1e-3)


@pytest.mark.parametrize("spoil", ["shape", "empty", "white"])
def test_what_tells_no_light_is_refused(ball: tuple, spoil: str) -> None:
    n, mask = ball
    linear = np.full(n.shape, 1.0 if spoil == "white" else 0.5, np.float32)
    with pytest.raises(ValueError, match=r"expected \[H, W, 3\]" if spoil == "shape" else "at least 200"):
        fit(linear[:50] if spoil == "shape" else linear, n, mask & (spoil != "empty"))


# --- another light ---


def test_under_its_own_light_a_photograph_stays_as_it_is(studio_faces: list[Face]) -> None:
    for face in studio_faces:
        taken = Relightable.of(face.photo, face.normal, face.mask)
        reached = taken.fit.light.shading(face.normal) > 1e-3
        same = picture(taken.under(taken.fit.light)).astype(int) - face.photo
        assert np.abs(same[reached]).max() <= 1 and (reached | ~face.mask[..., None]).mean() > 0.98


def test_off_the_mask_nothing_changes_and_without_light_it_is_dark(studio_faces: list[Face]) -> None:
    face = studio_faces[0]
    taken = Relightable.of(face.photo, face.normal, face.mask)
    relit, dark = (taken.under(Light.directional(0, 0, by)) for by in (1, 0))
    assert np.array_equal(relit[~face.mask], taken.linear[~face.mask])
    inside = taken._share(taken.fit.light.shading(face.normal)) == 1
    assert inside.any() and np.abs(dark[inside]).max() < 1e-6


def test_a_dark_wall_beside_an_unlit_cheek_stays_dark(ball: tuple) -> None:
    n, mask = ball
    shading = Light.directional(80, 0).shading(n)  # from the right, so that the left tells nothing of its albedo
    photo = picture(0.02 + 0.5 * SKIN * shading)
    taken = Relightable.of(photo, n, mask, SOFT)
    wall = np.zeros_like(mask)
    wall[40:56, 4:9] = True  # what an oval cuts off a wall
    lit, before = taken.under(Light.directional(-80, 0)), taken.linear
    assert (lit - before)[wall].mean() < 0.01 and (lit - before)[40:56, 20:26].mean() > 0.02


def test_relit_faces_are_nearer_to_the_studio_than_by_the_mean_normal(studio_faces: list[Face]) -> None:
    gains = []
    for face in studio_faces:
        own, mean = (Relightable.of(face.photo, n, face.mask) for n in (face.normal, flat(face.normal, face.mask)))
        for angles, truth in zip(DIRECTIONS, face.relit, strict=True):
            light = Light.directional(*angles, NEW, 0.1)
            gains.append(psnr(own.under(light), truth, face.mask) - psnr(mean.under(light), truth, face.mask))
    assert np.mean(gains) > 2 and np.mean(np.array(gains) > 0) >= 0.8


def test_a_moving_light_does_not_flicker(studio_faces: list[Face]) -> None:
    face = studio_faces[1]
    taken = Relightable.of(face.photo, face.normal, face.mask)
    frames = [taken.under(Light.directional(azimuth, 15, 1.0, 0.1)) for azimuth in np.arange(-60, 60.5, 0.5)]
    by_half, by_one = (max(np.abs(b - a).max() for a, b in zip(frames, frames[k:], strict=False)) for k in (1, 2))
    assert by_half < 0.6 * by_one < 0.1  # a jump would be as large over half a degree as over one
    mean = np.array([frame[face.mask].mean() for frame in frames])
    assert np.abs(np.diff(mean, 2)).max() < 0.05 * np.abs(np.diff(mean)).max() + 1e-5  # no frame stands out
