"""From a finer grid to pixels, and where faces lie in pictures: what must hold whatever is seen."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from casfne.capture.optics.camera import Camera
from casfne.capture.optics.fragments import Fragments, gather
from casfne.capture.optics.framing import LEFT_EYE, MOUTH_CORNERS, RIGHT_EYE, Framing, finer, training_crop
from casfne.capture.optics.raster import Hits
from casfne.capture.scene import rotation
from casfne.images import crop_from_points

PARTS = torch.tensor([0, 0, 1, 2, 5])  # of five triangles


def random_hits(batch: int, height: int, width: int, seed: int = 0, empty: float = 0.3) -> Hits:
    """Some pixels of a batch that see one of five triangles each."""
    rng = torch.Generator().manual_seed(seed)
    seen = torch.rand(batch, height * width, generator=rng) >= empty
    sample, pixel = seen.nonzero(as_tuple=True)
    count = len(pixel)
    barycentric = functional.normalize(torch.rand(count, 3, generator=rng), p=1, dim=1)
    triangle = torch.randint(len(PARTS), (count,), generator=rng)
    return Hits(sample, pixel, triangle, barycentric, torch.rand(count, generator=rng), (batch, height, width))


def hits_of(picture: list[list[int]]) -> Hits:
    """One picture of triangles; -1: nothing."""
    triangle = torch.tensor(picture)
    pixel = (triangle.flatten() >= 0).nonzero()[:, 0]
    third = torch.full((len(pixel), 3), 1 / 3)
    sample = torch.zeros_like(pixel)
    return Hits(sample, pixel, triangle.flatten()[pixel], third, torch.ones(len(pixel)), (1, *triangle.shape))


Slow = dict[tuple[int, int, int], list[int]]


def slow(hits: Hits, times: int) -> Slow:
    """(sample, coarse pixel, part) -> its hits."""
    found: Slow = defaultdict(list)
    _, _, width = hits.size
    for n, (sample, pixel, triangle) in enumerate(
        zip(hits.sample.tolist(), hits.pixel.tolist(), hits.triangle.tolist(), strict=True)
    ):
        row, column = pixel // width // times, pixel % width // times
        found[sample, row * (width // times) + column, int(PARTS[triangle])].append(n)
    return found


def keys(fragments: Fragments) -> list[tuple[int, int, int]]:
    columns = (fragments.sample.tolist(), fragments.pixel.tolist(), fragments.part.tolist())
    return list(zip(*columns, strict=True))


@pytest.mark.parametrize(("times", "shape"), [(1, (2, 5, 3)), (2, (3, 8, 12)), (3, (2, 9, 6)), (4, (1, 4, 8))])
def test_fragments_are_those_of_a_slow_search(times: int, shape: tuple[int, int, int]) -> None:
    hits = random_hits(*shape, seed=times)
    made, expected = gather(hits, PARTS, times), slow(hits, times)
    assert made.size == (shape[0], shape[1] // times, shape[2] // times)
    assert len(keys(made)) == len(expected) and set(keys(made)) == set(expected)
    values = torch.rand(len(hits.pixel), 4, generator=torch.Generator().manual_seed(9))
    mean, picture = made.mean(values), torch.zeros(shape[0], 4, made.size[1] * made.size[2])
    for number, key in enumerate(keys(made)):
        mine = expected[key]
        assert made.share[number] * times**2 == len(mine)
        assert int(made.first[number]) in mine
        assert (made.owner[mine] == number).all()
        assert torch.allclose(mean[number], values[mine].mean(0), atol=1e-6)
        picture[key[0], :, key[1]] += values[mine].sum(0) / times**2
    assert torch.allclose(made.picture(mean).flatten(2), picture, atol=1e-6)
    assert torch.equal(made.place, made.sample * made.size[1] * made.size[2] + made.pixel)
    in_order = [(sample, pixel) for sample, pixel, _ in keys(made)]
    assert in_order == sorted(in_order)


@pytest.mark.parametrize("times", [1, 2, 3])
def test_shares_sum_to_what_is_covered(times: int) -> None:
    hits = random_hits(2, 12, 18)
    made = gather(hits, PARTS, times)
    covered = functional.avg_pool2d(hits.image(torch.ones(len(hits.pixel), 1)), times)
    assert torch.allclose(made.picture(torch.ones(len(made.part), 1)), covered, atol=1e-6)
    assert torch.allclose(made.picture(torch.full((len(made.part), 2), 3.5)), 3.5 * covered.expand(-1, 2, -1, -1))


def test_one_time_is_the_hits_themselves() -> None:
    hits = random_hits(2, 7, 5)
    made = gather(hits, PARTS, 1)
    assert torch.equal(made.sample, hits.sample) and torch.equal(made.pixel, hits.pixel)
    assert torch.equal(made.part, PARTS[hits.triangle]) and (made.share == 1).all() and made.size == hits.size
    values = torch.rand(len(hits.pixel), 3)
    assert torch.equal(made.mean(values), values) and torch.equal(made.picture(values), hits.image(values))
    assert torch.equal(made.front(values), hits.image(values))


def test_an_edge_through_a_pixel_mixes_its_sides_by_area() -> None:
    # left 3 of 4 columns triangle 0, the rest triangle 2 (another part); 2 x 2 to a pixel
    made = gather(hits_of([[0, 0, 0, 2]] * 4), PARTS, 2)
    colour = torch.where(made.part[:, None] == 0, torch.tensor([1.0, 0]), torch.tensor([0.0, 1]))
    picture = made.picture(colour)[0]
    assert picture[0].tolist() == [[1, 0.5]] * 2 and picture[1].tolist() == [[0, 0.5]] * 2


def test_triangles_of_one_part_are_one_fragment() -> None:
    made = gather(hits_of([[0, 1], [1, 0]]), PARTS, 2)
    assert made.part.tolist() == [0] and made.share.tolist() == [1]
    values = torch.tensor([[1.0], [2], [3], [6]])
    assert made.mean(values).tolist() == [[3]]


def test_the_largest_is_in_front_and_the_first_of_equals() -> None:
    made = gather(hits_of([[2, 0, 3, 2], [0, 0, 2, 3], [-1, -1, 4, -1], [-1, -1, 4, -1]]), PARTS, 2)
    number = made.largest[0]
    assert made.part[number[0]].tolist() == [0, 2]  # three of four; two each, of which part 2 (triangle 3) came first
    assert int(number[1, 0]) == -1 and int(made.part[number[1, 1]]) == 5
    shown = made.front(made.part[:, None].float() + 1)
    assert shown[0, 0].tolist() == [[1, 3], [0, 6]]


def test_what_is_mostly_background_is_background() -> None:
    made = gather(hits_of([[0, -1, 0, 2], [-1, -1, -1, -1], [0, 0, 0, 0], [-1, -1, 0, -1]]), PARTS, 2)
    assert (made.largest[0] >= 0).tolist() == [[False, False], [True, True]]
    assert made.picture(torch.ones(len(made.part), 1))[0, 0].tolist() == [[0.25, 0.5], [0.5, 0.75]]


@pytest.mark.parametrize("times", [1, 2, 3, 4])
def test_the_largest_is_that_of_a_slow_search(times: int) -> None:
    hits = random_hits(2, 8 * times, 8 * times, seed=times)
    made = gather(hits, PARTS, times)
    number = made.largest.flatten(1)
    for sample in range(2):
        for pixel in range(64):
            mine = [n for n, key in enumerate(keys(made)) if key[:2] == (sample, pixel)]
            cover = {n: round(float(made.share[n]) * times**2) for n in mine}
            best = max(mine, key=lambda n: (cover[n], -n), default=-1)
            free = times**2 - sum(cover.values())
            assert int(number[sample, pixel]) == (-1 if free > cover.get(best, 0) else best)


@pytest.mark.parametrize("times", [1, 2])
def test_nothing_seen_is_an_empty_picture(times: int) -> None:
    made = gather(random_hits(2, 4, 4, empty=1.0), PARTS, times)
    nothing = torch.zeros(0, 3)
    assert made.mean(nothing).shape == (0, 3) and not made.picture(nothing).any() and not made.front(nothing).any()
    assert (made.largest == -1).all()


def test_what_is_not_a_number_stays_where_it_is() -> None:
    made = gather(hits_of([[0, 0, 2, 2], [0, 0, 2, 2], [-1, -1, 3, 3], [-1, -1, 3, 3]]), PARTS, 2)
    values = torch.where(made.part[:, None] == 0, torch.nan, 1.0)
    for picture in (made.front(values), made.picture(values)):
        assert picture.isnan()[0, 0].tolist() == [[True, False], [False, False]] and picture[0, 0, 1, 0] == 0


@pytest.mark.parametrize("times", [1, 2])
def test_a_batch_is_what_its_samples_are_alone(times: int) -> None:
    hits = random_hits(3, 8, 8)
    values = torch.rand(len(hits.pixel), 3)
    made = gather(hits, PARTS, times)
    together = made.picture(made.mean(values)), made.front(made.mean(values))
    for sample in range(3):
        mine = hits.sample == sample
        some = hits.of(mine.nonzero()[:, 0])
        own = gather(replace(some, sample=some.sample * 0, size=(1, 8, 8)), PARTS, times)
        alone = own.picture(own.mean(values[mine])), own.front(own.mean(values[mine]))
        assert all(torch.equal(a[0], b[sample]) for a, b in zip(alone, together, strict=True))


@pytest.mark.parametrize("times", [0, 2, 3])
def test_a_grid_that_does_not_divide_is_named(times: int) -> None:
    with pytest.raises(ValueError, match=f"multiples of {times}, got 8 x 7"):
        gather(random_hits(1, 8, 7), PARTS, times)


# --- where faces lie ---


def faces(count: int, seed: int = 1) -> Tensor:
    """68 points [B, 68, 3] of schematic heads of different proportions, upright, in metres."""
    rng = torch.Generator().manual_seed(seed)
    points = (torch.rand(count, 68, 3, generator=rng) - 0.5) * 0.002
    eye = torch.stack([torch.full((6,), 0.032), torch.full((6,), 0.0), torch.full((6,), 0.085)], -1)
    mirror = torch.tensor([-1.0, 1, 1])
    points[:, LEFT_EYE] += eye * mirror
    points[:, RIGHT_EYE] += eye
    corner = torch.tensor([0.025, -0.07, 0.09])
    points[:, MOUTH_CORNERS] += torch.stack([corner * mirror, corner])
    return points * (1 + 0.3 * torch.rand(count, 1, 3, generator=rng))


def turned(points: Tensor, seed: int = 2) -> Tensor:
    angles = (torch.rand(3, len(points), generator=torch.Generator().manual_seed(seed)) - 0.5) * 2
    turn = rotation(angles[0] * 60, angles[1] * 35, angles[2] * 40)
    return points @ turn.transpose(1, 2)


def five(points: Tensor) -> Tensor:
    """Eyes, nose and mouth corners [B, 5, 2] of the 68 in the picture."""
    left, right = points[:, LEFT_EYE].mean(1), points[:, RIGHT_EYE].mean(1)
    return torch.stack([left, right, points[:, 30], points[:, 48], points[:, 54]], 1)[..., :2]


def framed(points: Tensor, framing: Framing, zoom: float = 1.0, shift: tuple[float, float] = (0.0, 0.0)) -> Tensor:
    """Where the camera at half a metre to four sees the points, [B, 68, 2]."""
    count = len(points)
    distance = torch.linspace(0.5, 4, count)
    camera = framing.camera(points, distance, torch.full((count,), zoom), torch.tensor(shift).expand(count, 2))
    assert (camera.height, camera.width) == (framing.height, framing.width)
    return camera.project(points)[..., :2]


@pytest.mark.parametrize("size", [64, 256, 257])
@pytest.mark.parametrize("pose", [lambda points: points, turned], ids=["upright", "turned"])
def test_the_window_of_the_crop_is_the_whole_picture(size: int, pose: Callable[[Tensor], Tensor]) -> None:
    for points in five(framed(pose(faces(40)), training_crop(size))):
        crop = crop_from_points(points.numpy())
        assert abs(crop.left) <= 1 and abs(crop.top) <= 1 and abs(crop.side - size) <= 1, crop


def test_the_window_of_the_crop_is_the_picture_to_a_tenth_of_a_pixel() -> None:
    # the same points on a photograph of a hundred times as many pixels: whole pixels hide less there
    for points in five(framed(turned(faces(40)), training_crop(64))).double():
        crop = crop_from_points(points.numpy() * 100)
        assert abs(crop.left + 50) <= 10 and abs(crop.top + 50) <= 10 and abs(crop.side - 6400) <= 2, crop


def test_landmarks_land_where_the_crop_says() -> None:
    seen = five(framed(turned(faces(60)), training_crop(256)))
    eyes, mouth = seen[:, :2].mean(1), seen[:, 3:].mean(1)
    assert torch.allclose((eyes + mouth) / 2, torch.full((60, 2), 127.5), atol=0.01)
    apart, down = (seen[:, 1] - seen[:, 0]).norm(dim=-1) * 3.2, (mouth - eyes).norm(dim=-1) * 2.7
    assert torch.allclose(torch.maximum(apart, down), torch.full((60,), 256.0), rtol=1e-4)
    assert (apart > 255.9).any() and (down > 255.9).any(), "both limits were tried"


def test_zoom_and_shift_do_what_they_say() -> None:
    points, framing = turned(faces(20)), training_crop(200)
    middle = torch.tensor([99.5, 99.5])
    plain, larger = framed(points, framing), framed(points, framing, 1.5)
    assert torch.allclose(larger - middle, (plain - middle) * 1.5, atol=0.02)
    moved = framed(points, framing, shift=(0.1, -0.05))
    assert torch.allclose(moved, plain + torch.tensor([20.0, -10.0]), atol=0.02)


def test_other_framings_put_their_own_place_where_they_say() -> None:
    framing = Framing(120, 90, (40.0, 50.0), 0.25, 30.0, 1000.0)
    seen = five(framed(turned(faces(20)), framing))
    eyes, mouth = seen[:, :2].mean(1), seen[:, 3:].mean(1)
    assert torch.allclose(torch.lerp(eyes, mouth, 0.25), torch.tensor([40.0, 50.0]).expand(20, 2), atol=0.01)
    assert torch.allclose((seen[:, 1] - seen[:, 0]).norm(dim=-1), torch.full((20,), 30.0), rtol=1e-4)


@pytest.mark.parametrize("times", [1, 2, 3])
def test_finer_pixels_lie_within_their_own(times: int) -> None:
    points = turned(faces(5))
    camera = training_crop(64).camera(points, torch.full((5,), 0.7), torch.ones(5), torch.zeros(5, 2))
    fine = finer(camera, times)
    assert (fine.height, fine.width) == (64 * times, 64 * times)
    coarse, there = camera.project(points), fine.project(points)
    # from the picture's corner: half a pixel before the first pixel's centre
    assert torch.allclose((there[..., :2] + 0.5) / times, coarse[..., :2] + 0.5, atol=1e-3)
    assert torch.equal(there[..., 2], coarse[..., 2])
    assert isinstance(fine, Camera) and torch.equal(fine.distance, camera.distance)
