"""The camera: steps do what they say where they say, samples keep to themselves, files are real ones."""

import math

import cv2
import numpy as np
import pytest
import torch

from casfne.capture.draws import Draws
from casfne.capture.optics import lens
from casfne.capture.optics.filters import enlarging, gaussian, reduction, separable, shrunk_gaussian, softened
from casfne.capture.optics.jpeg import jpeg, luminance
from casfne.capture.optics.lens import curve, develop, srgb
from casfne.images import read_image

SIZE = 64


def draws(count, first=0):
    return Draws(torch.arange(count) + first)


def scene(count, size=SIZE):
    """Light [B, 3, S, S] with detail and bright spots; depth of a near disc before a far wall and a sky."""
    light = torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0)) ** 2
    light[:, :, ::9, ::9] = 3
    place = (torch.arange(size) + 0.5) / size * 2 - 1
    disc = place.square() + place[:, None].square() < 0.5
    depth = torch.where(disc, 0.8, 3.0).expand(count, 1, size, size).clone()
    depth[..., :4, :] = math.inf
    return light, depth


# --- all at once ---


def test_pictures_are_finite_in_range_and_the_same_again():
    light, depth = scene(48)
    kept = light.clone()
    made, again = develop(light, depth, draws(48)), develop(light, depth, draws(48))
    assert torch.equal(made, again) and torch.equal(light, kept)
    assert made.shape == light.shape and made.dtype == torch.float32
    assert torch.isfinite(made).all() and made.min() >= 0 and made.max() <= 1
    assert len({float(m) for m in made.mean((1, 2, 3))}) == 48


def test_a_sample_does_not_depend_on_its_batch():
    """To rounding, which a curve's table and a file's 8 bits may turn into a step here and there."""
    light, depth = scene(24)
    together = develop(light, depth, draws(24))
    for i in range(24):
        alone = develop(light[i : i + 1], depth[i : i + 1], draws(1, i))
        apart = (alone[0] - together[i]).abs()
        assert (apart > 1e-5).float().mean() < 0.01 and apart.mean() < 1e-4


def test_about_one_in_eight_is_grey():
    light, depth = scene(300, 16)
    made = develop(light, depth, draws(300))
    grey = (made - made[:, :1]).abs().amax((1, 2, 3)) < 0.02
    assert 0.07 < grey.float().mean() < 0.18


def test_pictures_need_not_be_square_nor_even():
    light = torch.rand(16, 3, 33, 50)
    assert develop(light, torch.ones(16, 1, 33, 50), draws(16)).shape == light.shape


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match=r"expected \[B, 3, H, W\]"):
        develop(torch.zeros(2, 3, 8, 8), torch.zeros(2, 1, 8, 9), draws(2))


# --- the lens ---


def test_what_is_in_focus_stays_sharp_and_the_far_does_not():
    light, depth = scene(12)
    made = lens._focus(light, draws(12), depth)
    near = (depth == 0.8).expand_as(light)
    assert torch.equal(made[near], light[near])
    far = ~near
    assert made[far].std() < 0.75 * light[far].std()
    assert made[far].mean() == pytest.approx(float(light[far].mean()), rel=0.15)


def test_focus_does_not_spill_the_bright_face_on_the_dark_wall():
    light, depth = scene(12)
    near = depth == 0.8
    light = torch.where(near, 1.0, 0.1).expand(-1, 3, -1, -1)
    made = lens._focus(light, draws(12), depth)
    assert made[~near.expand_as(made)].max() < 0.2


def test_one_depth_is_all_in_focus():
    light, _ = scene(8)
    assert torch.equal(lens._focus(light, draws(8), torch.full((8, 1, SIZE, SIZE), 0.7)), light)
    assert torch.equal(lens._focus(light, draws(8), torch.zeros(8, 1, SIZE, SIZE)), light)  # all infinitely far


def test_glare_spreads_light_and_keeps_its_mean():
    light = torch.zeros(8, 3, SIZE, SIZE)
    light[:, :, 30:34, 30:34] = 4
    made = lens._glare(light, draws(8))
    assert (made[:, :, 30:34, 30:34].mean((1, 2, 3)) < 4).all() and (made[:, :, 20, 32] > 0).all()
    assert torch.allclose(made.sum((1, 2, 3)), light.sum((1, 2, 3)), rtol=0.05)
    flat = torch.full((4, 3, SIZE, SIZE), 0.3)
    assert torch.allclose(lens._glare(flat, draws(4)), flat, atol=1e-5)


def test_fringes_leave_the_middle_and_green():
    size = 257
    x = torch.arange(size) - 128.0
    ramp = (1 + 0.002 * x).expand(8, 3, size, size).contiguous()
    made = lens._fringes(ramp, draws(8))
    assert torch.equal(made[:, :, 128, 128], ramp[:, :, 128, 128]) and torch.equal(made[:, 1], ramp[:, 1])
    moved = (made - ramp)[:, [0, 2], 128, 250] / 0.002  # pixels, as the ramp is even
    assert moved.abs().max() <= 0.002 * 122 + 1e-3 and moved.abs().amax(0).min() > 0.05
    assert torch.allclose(moved, -(made - ramp)[:, [0, 2], 128, 6] / 0.002, atol=1e-3)  # magnified, not shifted


def test_a_vignette_darkens_corners_alone():
    flat = torch.ones(8, 3, 65, 65)
    made = lens._vignette(flat, draws(8))
    assert torch.allclose(made[..., 32, 32], torch.tensor(1.0)) and (made[..., 0, 0] < 0.995).all()
    assert made.min() > 0.5 and (made.diff(dim=-1)[..., 33:] <= 0).all()


def test_motion_smears_along_one_line():
    light = torch.zeros(32, 3, 33, 33)
    light[..., 16, 16] = 1
    made = lens._motion(light, draws(32))
    assert torch.allclose(made.sum((2, 3)), torch.ones(32, 3), atol=1e-5) and (made >= 0).all()
    offset = torch.arange(33) - 16.0
    points = torch.stack(torch.meshgrid(offset, offset, indexing="ij"), -1).view(-1, 2)
    spread = torch.einsum("np,pi,pj->nij", made[:, 0].flatten(1), points, points)
    across, along = torch.linalg.eigvalsh(spread).unbind(-1)
    assert (across < 0.3).all() and along.max() > 2.2 and (along > across).float().mean() > 0.9
    assert (12 * along).sqrt().max() < 7.5


# --- the sensor ---


def test_noise_has_the_deviation_of_its_light():
    own = draws(24)
    read = own.log_between("read", *lens._READ)
    shot = own.log_between("shot", *lens._SHOT)
    for level in (0.2, 0.8):
        flat = torch.full((24, 3, 128, 128), level)
        made = lens._noise(flat, own) - flat
        gain = min(max(0.18 / level, 0.7), 2) ** 0.5
        wanted = gain * (read**2 + shot**2 * level).sqrt()
        assert torch.allclose(made.std((2, 3)), wanted[:, None].expand(-1, 3), rtol=0.06)
        assert (made.mean((2, 3)).abs() < 0.05 * wanted[:, None]).all()
    rows = made.flatten(1)
    assert (torch.corrcoef(rows) - torch.eye(24)).abs().max() < 0.05


def test_noise_is_normal():
    noise = lens._pixel_noise(draws(2), 101, 99).double()
    assert noise.shape == (2, 3, 101, 99)
    assert noise.mean().abs() < 0.02 and noise.std() == pytest.approx(1, abs=0.01)
    assert (noise**4).mean() == pytest.approx(3, abs=0.1)
    shares = torch.tensor([(noise.abs() < k).double().mean() for k in (0.5, 1, 2, 3)])
    assert torch.allclose(shares, torch.tensor([0.3829, 0.6827, 0.9545, 0.9973]).double(), atol=0.005)
    planes = noise.flatten(1)
    for lag in (1, 99, 101 * 99):
        assert (planes[:, lag:] * planes[:, :-lag]).mean().abs() < 0.02


def test_exposure_and_white_are_near_what_they_should_be():
    gains = lens._exposure(draws(500))[..., 0, 0]
    stops = gains[:, 1].log2()
    assert stops.min() > -1 and stops.max() < 0.8
    ratio = gains[:, 0] / gains[:, 2]
    assert ratio.min() > 0.5 and ratio.max() < 2 and ratio.log().std() > 0.1


# --- the software ---


def test_curves_grow_from_black_to_white():
    light = torch.linspace(0, 4, 2000).expand(200, -1)
    value = curve(light, draws(200))
    assert (value.diff(dim=1) >= -1e-6).all() and value.min() >= 0 and value.max() <= 1 + 1e-6
    assert (value[:, 0] < 0.081).all() and (value[:, 0] == 0).float().mean() > 0.75
    middle = value[:, 90]  # light of 0.18
    assert middle.median() == pytest.approx(float(srgb(torch.tensor(0.18))), abs=0.04)
    assert middle.std() > 0.03


def test_the_table_is_the_curve():
    light, own = torch.rand(4, 3, 32, 32) * 2, draws(4)
    made = lens._curved(light, own)
    wanted = curve(light.flatten(1), own.sub("curve")).view_as(light)
    assert (made - wanted).abs().max() < 0.003


def test_srgb_is_the_standards():
    assert torch.allclose(
        srgb(torch.tensor([0.0, 0.002, 0.18, 1])), torch.tensor([0.0, 0.02584, 0.46135, 1]), atol=1e-4
    )


def test_colour_keeps_luminance():
    image = torch.rand(64, 3, 8, 8) * 0.5 + 0.2
    made = lens._colour(image, draws(64))
    inside = ((made > 0) & (made < 1)).all(1, keepdim=True)
    assert (luminance(made) - luminance(image))[inside].abs().max() < 1e-5


def test_sharpening_steepens_edges_and_leaves_flats():
    edge = torch.full((6, 3, 16, 16), 0.3)
    edge[..., 8:] = 0.6
    made = lens._sharpen(edge, draws(6))
    assert torch.allclose(made[..., :6], edge[..., :6]) and torch.allclose(made[..., 10:], edge[..., 10:])
    assert (made[..., 8] > 0.6).all() and (made[..., 7] < 0.3).all()


# --- blurs and resampling ---


def test_blurs_are_as_wide_as_they_say_and_keep_flats():
    pixel = torch.arange(65.0) - 32
    for sigma in (0.7, 2.0, 5.0):
        row = gaussian(torch.full((1, 1, 1), sigma), 65)[0, 32]
        assert float((row * pixel**2).sum()) == pytest.approx(sigma**2, rel=0.02)
    dot = torch.zeros(1, 1, 256, 256)
    dot[..., 128, 128] = 1
    down, up = shrunk_gaussian(torch.full((1, 1, 1), 10.0), 256, 64)
    wide = separable(separable(dot, down, down), up, up)[0, 0].sum(0)
    assert float((wide * (torch.arange(256.0) - 128) ** 2).sum() / wide.sum()) == pytest.approx(100, rel=0.05)
    first, second = lens._two_blurred(dot, torch.tensor([5.0]))
    for made, sigma in ((first, 2.0), (second, 5.0)):
        line = made[0, 0].sum(0)
        middle = float((line * torch.arange(256.0)).sum() / line.sum())
        assert float((line * (torch.arange(256.0) - middle) ** 2).sum()) == pytest.approx(sigma**2, rel=0.1)
    flat = torch.full((2, 3, 9, 12), 0.4)
    assert torch.allclose(softened(flat), flat)


@pytest.mark.parametrize("cubic", [0.0, 1.0])
def test_resampling_is_that_of_opencv(cubic):
    image = np.random.default_rng(0).random((60, 60)).astype(np.float32)
    small = cv2.resize(image, (20, 20), interpolation=cv2.INTER_AREA)
    assert torch.allclose(reduction(torch.ones(1, 1, 1), 60, cubic)[0], torch.eye(60), atol=1e-6)
    weights = reduction(torch.full((1, 1, 1), 3.0), 60, cubic)
    made = separable(torch.from_numpy(image)[None, None], weights, weights)[0, 0]
    assert torch.allclose(weights.sum(-1), torch.ones(1, 60), atol=1e-5)
    if cubic:  # OpenCV's kernel has another slope: on a parabola, which Keys's repeats, it is known what is right
        place = torch.arange(20.0)
        fine = enlarging(torch.full((1, 1, 1), 3.0), 60, cubic)[0, :, :20] @ place.square()
        assert torch.allclose(fine[6:-6], ((torch.arange(60.0) + 0.5) / 3 - 0.5).square()[6:-6], atol=1e-3)
    else:
        theirs = torch.from_numpy(cv2.resize(small, (60, 60), interpolation=cv2.INTER_LINEAR))
        assert (made - theirs).abs().max() < 1e-4


# --- files ---


@pytest.fixture(scope="module")
def portraits(shared_data):
    """Three real faces, float32 [3, 3, 256, 256]."""
    files = sorted((shared_data / "portraits" / "crops_256").glob("*.png"))[:3]
    return torch.from_numpy(np.stack([read_image(f) for f in files])).permute(0, 3, 1, 2) / 255


def opencv(image, quality):
    """image [3, H, W] of whole 255ths after a file of OpenCV's, 4:2:0."""
    pixels = (image.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()[..., ::-1]
    options = [
        cv2.IMWRITE_JPEG_QUALITY,
        quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    ]
    data = cv2.imencode(".jpg", pixels, options)[1]
    return torch.from_numpy(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1].copy()).permute(2, 0, 1) / 255


@pytest.mark.parametrize("size", [256, 250])
def test_jpeg_is_that_of_opencv(portraits, size):
    images = portraits[..., :size, :size]
    for quality in (30, 75, 95):
        made = jpeg(images, torch.full((3, 1, 1, 1), float(quality)))
        theirs = torch.stack([opencv(image, quality) for image in images])
        assert ((made - theirs).abs().mean((1, 2, 3)) * 255).max() < 1.2
        assert (made - images).abs().mean() == pytest.approx(float((theirs - images).abs().mean()), rel=0.12)


def test_photographs_stay_the_same_faces(portraits):
    """What comes out still resembles what went in."""
    light = torch.where(portraits <= 0.04045, portraits / 12.92, ((portraits + 0.055) / 1.055) ** 2.4)
    made = develop(light.repeat(8, 1, 1, 1), torch.ones(24, 1, 256, 256), draws(24))
    grey, wanted = (luminance(i).flatten(1) for i in (made, portraits.repeat(8, 1, 1, 1)))
    alike = [float(torch.corrcoef(torch.stack(pair))[0, 1]) for pair in zip(grey, wanted, strict=True)]
    assert min(alike) > 0.85 and float(np.median(alike)) > 0.95
