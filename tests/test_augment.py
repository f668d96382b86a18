"""Augmentation: faces move as a mesh that moves, samples keep to themselves, cameras and files behave as real ones."""

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from casfne.capture.optics.filters import gaussian, reduction
from casfne.capture.optics.jpeg import jpeg
from casfne.capture.optics.raster import rasterise, vertex_normals
from casfne.capture.people import anny
from casfne.errors import InputError
from casfne.images import Crop, read_image
from casfne.normals import angle_deg, sphere
from casfne.training import augment as augmentation
from casfne.training.augment import KINDS, Pose, augment, check_kinds, pose, resize_batch
from casfne.training.draws import draw

SIZE = 256
TRUTH = ("normal", "mask", "trust")
ON_IMAGE = tuple(k for k in KINDS if k not in ("crop", "roll", "flip", "occlude", "cut"))
SHARED = ("flip", "occlude", "blur", "grey", "noise", "jpeg", "cut")  # kinds that touch some of the samples


def see(vertices, triangles):
    """Normals [3, S, S] and mask [1, S, S] of a mesh under parallel rays; the picture spans -1..1."""
    x, y, z = vertices.T
    screen = torch.stack([(x + 1) * SIZE / 2 - 0.5, (1 - y) * SIZE / 2 - 0.5, z], -1)
    hits = rasterise(screen[None], triangles, SIZE, SIZE)
    normal = functional.normalize(hits.mix(vertex_normals(vertices[None], triangles), triangles), dim=-1)
    return hits.image(normal)[0], hits.image(torch.ones_like(normal[:, :1]))[0]


@pytest.fixture(scope="module")
def head():
    """Vertices and triangles of a head that leaves a little air in -1..1."""
    model = anny.anny_model()
    return model.template / 0.165, model.triangles


@pytest.fixture(scope="module")
def face(head):
    """A batch of one: the head in the middle under a light from the upper left, textured, on grey."""
    normal, mask = see(*head)
    shade = (normal * torch.tensor([-0.4, 0.5, 0.77]).view(3, 1, 1)).sum(0, keepdim=True).clamp(0, 1)
    colour = torch.tensor([0.85, 0.65, 0.55]).view(3, 1, 1)
    image = torch.where(mask > 0, 0.05 + 0.9 * shade.sqrt() * colour, 0.3)
    return {"image": image[None], "normal": normal[None], "mask": mask[None], "trust": 0.8 * mask[None]}


def copies(batch, count):
    return {k: v.expand(count, *v.shape[1:]).clone() for k, v in batch.items()}


def one_of(batch, i):
    return {k: v[i : i + 1] for k, v in batch.items()}


def same(a, b, names=("image", *TRUTH)):
    return all(torch.equal(a[k], b[k]) for k in names)


def noisy(count, seed=0, size=64):
    """Samples that differ, of which every pixel differs; the mask a disc."""
    image = torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))
    normal, mask = (torch.from_numpy(a) for a in sphere(size))
    shapes = {"normal": normal.permute(2, 0, 1), "mask": mask[None].float(), "trust": 0.5 * mask[None].float()}
    return {"image": image} | {k: v.expand(count, *v.shape).clone() for k, v in shapes.items()}


# --- samples keep to themselves ---


def test_seeds_alone_decide():
    batch, seeds = noisy(16), torch.arange(16)
    before = {k: v.clone() for k, v in batch.items()}
    torch.manual_seed(1)
    once = augment(batch, seeds, KINDS)
    torch.manual_seed(2)
    assert same(once, augment(batch, seeds, KINDS)) and same(batch, before)
    assert not same(once, augment(batch, seeds + 16, KINDS))
    with torch.autocast("cpu", torch.bfloat16):
        assert same(once, augment(batch, seeds, KINDS))
    ordered = {k: v.to(memory_format=torch.channels_last) for k, v in batch.items()}
    again = augment(ordered, seeds, KINDS)  # sums in another order may round to the next of the file's 255ths
    assert all((once[k] - again[k]).abs().mean() < 1e-4 for k in once)


def test_neighbours_and_places_do_not_matter(face):
    batch, seeds = copies(face, 12), torch.arange(12) * 7919
    together = augment(batch, seeds, KINDS)
    order = torch.arange(11, -1, -1)
    turned = augment({k: v[order] for k, v in batch.items()}, seeds[order], KINDS)
    assert same(together, {k: v[order] for k, v in turned.items()})
    for i in range(12):
        assert same(augment(one_of(batch, i), seeds[i : i + 1], KINDS), one_of(together, i))


def test_no_kinds_change_nothing():
    batch = noisy(4)
    assert same(augment(batch, torch.arange(4), ()), batch)


@pytest.mark.parametrize("kind", SHARED)
def test_a_kind_that_is_off_leaves_the_others_draws(kind):
    seeds = torch.arange(24)
    batch, others = noisy(24), tuple(k for k in KINDS if k != kind)
    everything, without = augment(batch, seeds, KINDS), augment(batch, seeds, others)
    touched = draw(seeds).touched(kind)
    assert 0 < touched.sum() < 24
    for i, changed in enumerate(touched.tolist()):
        assert torch.equal(everything["image"][i], without["image"][i]) != changed


def test_poses_and_occluders_do_not_follow_from_what_else_is_on():
    seeds = torch.arange(32)
    every = pose(draw(seeds), KINDS)
    assert torch.equal(every.roll_deg, pose(draw(seeds), ("roll",)).roll_deg)
    assert torch.equal(every.mirrored, pose(draw(seeds), ("flip", "grey")).mirrored)
    assert torch.equal(every.shift, pose(draw(seeds), ("crop",)).shift)
    still = pose(draw(seeds), ())
    assert not still.roll_deg.any() and not still.mirrored.any() and not still.shift.any() and (still.scale == 1).all()
    batch = noisy(32)
    assert same(augment(batch, seeds, ("occlude",)), augment(batch, seeds, ("occlude", *ON_IMAGE)), TRUTH)


def test_draws_have_the_stated_distribution():
    drawn = pose(draw(torch.arange(4000)), KINDS)
    assert 0.46 < drawn.mirrored.float().mean() < 0.54
    assert 9 < drawn.roll_deg.std() < 10.5 and abs(float(drawn.roll_deg.mean())) < 0.6
    assert 25 < drawn.roll_deg.abs().max() <= 30
    assert drawn.scale.min() >= 0.9199 and drawn.scale.max() <= 1.2501
    assert abs(float(drawn.scale.log().mean()) - math.log(0.92 * 1.25) / 2) < 0.01
    assert 0.158 < drawn.shift.abs().max() <= 0.16001
    assert abs(float(torch.corrcoef(drawn.shift.T)[0, 1])) < 0.05


def test_a_gpu_does_what_the_cpu_does():
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    batch, seeds = noisy(16), torch.arange(16)
    kinds = [k for k in KINDS if k not in ("noise", "jpeg")]  # other numbers; rounding to coarse steps
    here, there = augment(batch, seeds, kinds), augment({k: v.cuda() for k, v in batch.items()}, seeds, kinds)
    assert all(torch.allclose(here[k], there[k].cpu(), atol=1e-3) for k in ("image", "normal"))
    assert all(v.is_cuda for v in augment({k: v.cuda() for k, v in batch.items()}, seeds, KINDS).values())


def test_nothing_of_a_batch_is_left_on_the_cpu():
    """Tensors without content refuse to meet those of the CPU, as a GPU's do."""
    batch = {k: v.to("meta") for k, v in noisy(16).items()}
    kinds = [k for k in KINDS if k != "noise"]  # there is no generator without content
    done = augmentation._augment(batch, draw(torch.arange(16)), kinds)
    assert all(v.is_meta for v in done.values())


# --- the door ---


def test_unknown_kinds_are_named():
    check_kinds(KINDS)
    with pytest.raises(InputError, match=r"^train augment 'rol': expected one of crop, roll, flip, "):
        check_kinds(("crop", "rol"))
    with pytest.raises(InputError, match="'rol'"):
        augment(noisy(2), torch.arange(2), ("rol",))


def test_bad_shapes_are_named():
    batch = noisy(3)
    with pytest.raises(ValueError, match=r"int64 seeds \[3\], got torch.int64 \[2\]"):
        augment(batch, torch.arange(2), KINDS)
    with pytest.raises(ValueError, match=r"int64 seeds \[3\], got torch.float32 \[3\]"):
        augment(batch, torch.zeros(3), KINDS)
    with pytest.raises(ValueError, match=r"mask: expected \[B, 1, S, S\], here \[3, 1, 64, 64\], got \[3, 64, 64\]"):
        augment({**batch, "mask": batch["mask"][:, 0]}, torch.arange(3), KINDS)
    with pytest.raises(ValueError, match=r"image: expected .* got \[3, 3, 32, 64\]"):
        resize_batch({**batch, "image": batch["image"][:, :, :32]}, 16)


# --- the photograph's edges ---


def test_a_cut_photograph_is_cropped_as_the_labels_crop_it():
    batch, seeds = noisy(32), torch.arange(32)
    done, size = augment(batch, seeds, ("cut",)), batch["image"].shape[-1]
    ended = 0
    for i, cut in enumerate(draw(seeds).touched("cut").tolist()):
        if not cut:
            assert same(one_of(done, i), one_of(batch, i))
            continue
        changed = (done["image"][i] != batch["image"][i]).any(0)
        rows, columns = (~changed.all(1)).nonzero()[:, 0], (~changed.all(0)).nonzero()[:, 0]
        top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
        photo = batch["image"][i].movedim(0, -1).numpy()[top:bottom, left:right]
        expected = Crop(-left, -top, size).apply(photo, size)
        assert np.array_equal(done["image"][i].movedim(0, -1).numpy(), expected)
        inside = torch.zeros(1, size, size, dtype=torch.bool)
        inside[:, top:bottom, left:right] = True
        for name in TRUTH:
            assert torch.equal(done[name][i], batch[name][i] * inside)
        ended += (bottom - top) * (right - left) < size**2
    assert ended > 5


# --- geometry, against a mesh that was moved itself ---


def moved(mesh, posed: Pose, i, turn=1.0):
    """The mesh mirrored, rolled (counter-clockwise, times ``turn``), scaled and shifted, then seen."""
    vertices, triangles = mesh
    if posed.mirrored[i]:
        vertices, triangles = vertices * torch.tensor([-1.0, 1, 1]), triangles.flip(1)
    a = math.radians(turn * float(posed.roll_deg[i]))
    x, y, z = vertices.T
    rolled = torch.stack([x * math.cos(a) - y * math.sin(a), x * math.sin(a) + y * math.cos(a), z], -1)
    return see(rolled * posed.scale[i] + torch.cat([posed.shift[i], torch.zeros(1)]), triangles)


def errors(normal, mask, expected, expected_mask):
    """Degrees between two maps where both have a face, three pixels and more from its edges."""
    off = functional.max_pool2d(1 - (mask * expected_mask)[None], 7, 1, 3)[0, 0]
    inside = off == 0
    assert inside.float().mean() > 0.15
    return angle_deg(normal.permute(1, 2, 0)[inside].numpy(), expected.permute(1, 2, 0)[inside].numpy())


@pytest.mark.parametrize("kinds", [("roll",), ("crop",), ("flip",), ("crop", "roll", "flip")], ids="+".join)
def test_a_moved_picture_is_the_picture_of_the_moved_head(head, face, kinds):
    seeds = torch.tensor([18, 23, 33, 39])
    posed = pose(draw(seeds), kinds)
    done = augment(copies(face, 4), seeds, kinds)
    assert "flip" not in kinds or 0 < posed.mirrored.sum() < 4
    assert "roll" not in kinds or (posed.roll_deg.min() < -10 and posed.roll_deg.max() > 10)
    for i in range(4):
        normal, mask = done["normal"][i], done["mask"][i]
        expected = moved(head, posed, i)
        error = errors(normal, mask, *expected)
        assert error.mean() < 1.0 and np.median(error) < 0.1  # the mean has edges within the face in it: ears, lips
        overlap = (mask * expected[1]).sum() / (mask + expected[1]).clamp(max=1).sum()
        assert overlap > 0.95


def test_the_comparison_sees_wrong_signs(head, face):
    seeds = torch.tensor([18])  # mirrored, and rolled by 16 degrees
    posed = pose(draw(seeds), ("roll", "flip"))
    done = augment(face, seeds, ("roll", "flip"))
    ours = done["normal"][0], done["mask"][0]
    right = moved(head, posed, 0)
    assert errors(*ours, *right).mean() < 1
    assert errors(*ours, *moved(head, posed, 0, turn=-1)).mean() > 5  # picture and normals turned the wrong way
    x, y, z = right[0]
    a = math.radians(-2 * float(posed.roll_deg[0]))
    unlike = torch.stack([x * math.cos(a) - y * math.sin(a), x * math.sin(a) + y * math.cos(a), z])
    assert errors(*ours, unlike, right[1]).mean() > 5  # normals alone turned the wrong way
    flipped = augment(face, seeds, ("flip",))
    careless = torch.cat([-flipped["normal"][0, :1], flipped["normal"][0, 1:]])  # mirrored, x as it was
    expected = moved(head, pose(draw(seeds), ("flip",)), 0)
    assert errors(flipped["normal"][0], flipped["mask"][0], *expected).mean() < 1
    assert errors(careless, flipped["mask"][0], *expected).mean() > 5


def test_image_and_truth_move_together(face):
    z = face["normal"][:, 2:].clamp_min(0)
    batch = copies({**face, "image": z.repeat(1, 3, 1, 1), "trust": z}, 8)
    done = augment(batch, torch.arange(8), ("crop", "roll", "flip"))
    inside = functional.max_pool2d(1 - done["mask"], 7, 1, 3) == 0
    assert (done["image"][:, :1] - done["trust"]).abs()[inside].max() < 1e-5
    assert (done["image"][:, :1] - done["normal"][:, 2:])[inside].abs().mean() < 0.01
    assert (done["image"][:, :1] - batch["trust"])[inside].abs().mean() > 0.05  # it did move


def test_moved_normals_are_unit_on_the_mask_and_zero_off_it(face):
    done = augment(copies(face, 8), torch.arange(8), ("crop", "roll", "flip"))
    length = done["normal"].norm(dim=1, keepdim=True)
    assert set(done["mask"].unique().tolist()) == {0, 1}
    assert torch.allclose(length, done["mask"], atol=1e-5)
    assert done["trust"][done["mask"] > 0].min() > 0.8 * 0.985  # the mask is where it was whole


def test_the_picture_goes_on_beyond_its_edges_the_truth_does_not():
    batch = noisy(16)
    whole = {k: torch.full_like(batch[k], v) for k, v in (("image", 0.5), ("mask", 1), ("trust", 1))}
    done = augment({**batch, **whole}, torch.arange(16), ("crop", "roll"))
    assert torch.allclose(done["image"], whole["image"], atol=1e-5)
    off = done["mask"] == 0
    assert (off.flatten(1).any(1)).sum() > 8 and torch.allclose(done["trust"][~off], torch.tensor(1.0), atol=0.011)
    outside = functional.max_pool2d(1 - off.float(), 7, 1, 3) == 0
    assert outside.any() and not done["trust"][outside].any()


def test_normals_off_the_mask_do_not_bend_its_edge(face):
    stray = {**face, "normal": torch.where(face["mask"] > 0, face["normal"], torch.tensor(-0.577))}
    clean, dirty = (augment(copies(b, 4), torch.arange(4), ("crop", "roll", "flip")) for b in (face, stray))
    assert torch.equal(clean["normal"], dirty["normal"])


# --- occluders ---


def test_occluders_take_mask_and_trust_where_they_cover():
    batch, seeds = noisy(64), torch.arange(64)
    batch = {**batch, "mask": torch.ones(64, 1, 64, 64), "trust": torch.full((64, 1, 64, 64), 0.7)}
    done = augment(batch, seeds, ("occlude",))
    covered = done["mask"] == 0
    share = covered.float().mean((1, 2, 3))
    touched = draw(seeds).touched("occlude")
    assert torch.equal(share > 0, touched) and 8 < touched.sum() < 25
    assert share[touched].min() > 0.003 and share[touched].max() < 0.4
    changed = (done["image"] != batch["image"]).any(1, keepdim=True)
    assert not (changed & ~covered).any() and (changed | ~covered).float().mean() > 0.999
    assert not done["trust"][covered].any() and (done["trust"][~covered] == 0.7).all()
    assert not (done["normal"] * covered).any()
    assert torch.equal(done["normal"] * ~covered, batch["normal"] * ~covered)
    for along in (covered.any(-1), covered.any(-2)):  # they may lie anywhere
        assert along[touched].any(0).float().mean() > 0.9


def test_an_occluder_hides_what_it_covers():
    batch, other, seeds = noisy(24, size=SIZE), noisy(24, seed=1, size=SIZE), torch.arange(24)
    first, second = augment(batch, seeds, ("occlude",)), augment(other, seeds, ("occlude",))
    apart = (first["image"] - second["image"]).abs()
    assert (apart <= (batch["image"] - other["image"]).abs() + 1e-6).all()
    hidden = (apart == 0).all(1).float().mean((1, 2))
    touched = draw(seeds).touched("occlude")
    assert (hidden[touched] > 0.003).all() and not hidden[~touched].any()


# --- the camera ---


def laplacian_variance(image):
    kernel = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]]).expand(3, 1, 3, 3)
    return functional.conv2d(image, kernel, groups=3).var((1, 2, 3))


def test_blur_keeps_the_mean_and_softens(face):
    batch, seeds = copies(face, 32), torch.arange(32)
    batch["image"] = batch["image"] * 0.8 + 0.2 * noisy(32, size=SIZE)["image"]
    done = augment(batch, seeds, ("blur",))["image"]
    touched = draw(seeds).touched("blur")
    assert torch.equal(done[~touched], batch["image"][~touched])
    assert torch.allclose(done.mean((2, 3)), batch["image"].mean((2, 3)), atol=1e-3)
    ratio = laplacian_variance(done)[touched] / laplacian_variance(batch["image"])[touched]
    assert ratio.max() < 1 and ratio.min() < 0.05 and ratio.median() < 0.6


def test_blur_is_as_wide_as_it_says():
    pixel = torch.arange(65.0) - 32
    for sigma in (0.7, 1.3, 2.0):
        row = gaussian(torch.full((1, 1, 1), sigma), 65)[0, 32]
        assert float((row * pixel**2).sum()) == pytest.approx(sigma**2, rel=0.02)
    assert torch.allclose(reduction(torch.ones(1, 1, 1), 64)[0], torch.eye(64), atol=1e-6)
    third = reduction(torch.full((1, 1, 1), 3.0), 66)[0]
    assert torch.allclose(third.sum(-1), torch.ones(66)) and torch.linalg.matrix_rank(third) == 22
    stripes = third @ torch.tensor([0.0, 1, 0.5]).repeat(22)[:, None]  # finer than the cells
    assert torch.allclose(stripes, torch.full((66, 1), 0.5), atol=1e-5)


def test_noise_has_the_deviation_that_was_drawn():
    seeds = torch.arange(40)
    drawn = draw(seeds)
    batch = noisy(40, size=128)
    for level in (0.3, 0.7):
        done = augment({**batch, "image": torch.full((40, 3, 128, 128), level)}, seeds, ("noise",))["image"]
        read, shot = (drawn[c].flatten() * most for c, most in (("read", 0.02), ("shot", 0.035)))
        expected = (read**2 + shot**2 * level).sqrt() * drawn.touched("noise")
        assert torch.allclose(done.std((1, 2, 3)), expected, rtol=0.03, atol=1e-6)
        assert expected.max() < 0.041 and (done.mean((1, 2, 3)) - level).abs().max() < 1e-3
    residual = done[drawn.touched("noise")].flatten(1)
    off_diagonal = torch.corrcoef(residual) - torch.eye(len(residual))
    assert off_diagonal.abs().max() < 0.03  # each sample has noise of its own


def test_grey_is_the_luminance():
    batch, seeds = noisy(64), torch.arange(64)
    batch["image"][:, :, :8] = 1  # white stays in range
    done = augment(batch, seeds, ("grey",))["image"]
    touched = draw(seeds).touched("grey")
    assert 0 < touched.sum() < 16
    grey = done[touched]
    assert torch.equal(grey[:, 0], grey[:, 1]) and torch.equal(grey[:, 0], grey[:, 2]) and grey.max() <= 1
    assert torch.allclose(
        grey[:, 0], torch.einsum("c,bchw->bhw", torch.tensor([0.299, 0.587, 0.114]), batch["image"][touched])
    )
    assert torch.equal(done[~touched], batch["image"][~touched])


def test_tone_is_the_same_growing_curve_for_all_channels():
    ramp = torch.linspace(0, 1, 64).expand(32, 3, 64, 64).contiguous()
    done = augment({**noisy(32), "image": ramp}, torch.arange(32), ("tone",))["image"]
    assert (done.diff(dim=-1) >= 0).all() and torch.equal(done[:, 0], done[:, 2])
    middle = done[:, 0, 0, 32]
    assert middle.min() < 0.42 and middle.max() > 0.6 and (done[..., 0] == 0).all()


def test_colour_changes_hue_not_the_luminance_of_greys():
    grey = torch.full((32, 3, 64, 64), 0.5)
    done = augment({**noisy(32), "image": grey}, torch.arange(32), ("colour",))["image"]
    weights = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    assert torch.allclose((done * weights).sum(1), grey[:, 0], atol=1e-5)
    spread = (done.amax(1) - done.amin(1)).flatten(1).mean(1)
    assert spread.max() > 0.08 and spread.max() < 0.3


@pytest.mark.parametrize("kind", ON_IMAGE)
def test_what_changes_the_image_alone_leaves_the_truth(kind):
    batch, seeds = noisy(32), torch.arange(32)
    done = augment(batch, seeds, (kind,))
    assert same(done, batch, TRUTH) and not torch.equal(done["image"], batch["image"])
    assert done["image"].min() >= 0 and done["image"].max() <= 1


# --- files ---


def pillow(image, quality):
    """image [3, H, W] of whole 255ths after a file of Pillow's, 4:2:0."""
    file = io.BytesIO()
    pixels = (image.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling=2)
    return torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1) / 255


def ours(images, quality):
    return jpeg(images, torch.full((len(images), 1, 1, 1), float(quality)))


@pytest.fixture(scope="module")
def portraits(shared_data):
    """Three real faces, float32 [3, 3, 256, 256]."""
    files = sorted((shared_data / "portraits" / "crops_256").glob("*.png"))[:3]
    return torch.from_numpy(np.stack([read_image(f) for f in files])).permute(0, 3, 1, 2) / 255


@pytest.mark.parametrize("size", [256, 250])
def test_jpeg_is_that_of_pillow(portraits, size):
    images = portraits[..., :size, :size]
    damage = []
    for quality in (30, 49, 50, 75, 95):
        made = ours(images, quality)
        theirs = torch.stack([pillow(image, quality) for image in images])
        assert made.shape == images.shape
        assert ((made - theirs).abs().mean((1, 2, 3)) * 255).max() < 1.2  # Pillow smooths the chroma's steps
        last = (made - theirs)[..., -8:].abs()  # where the blocks go on beyond the picture
        assert last.mean() * 255 < 2
        damage.append((float((made - images).abs().mean()), float((theirs - images).abs().mean())))
    mine, others = np.array(damage).T
    assert (np.diff(mine) < 0).all() and np.abs(mine / others - 1).max() < 0.12


def test_jpeg_of_greys_is_pillows_to_rounding(portraits):
    greys = (portraits.mean(1, keepdim=True).repeat(1, 3, 1, 1) * 255).round() / 255
    for quality in (30, 75):
        gap = (ours(greys, quality) - torch.stack([pillow(g, quality) for g in greys])).abs() * 255
        assert gap.mean() < 0.2  # libjpeg counts in whole numbers: a coefficient here and there is rounded otherwise


def test_jpeg_of_rendered_faces_at_their_own_quality(face):
    images = (face["image"].repeat(3, 1, 1, 1) * 255).round() / 255
    quality = torch.tensor([30.0, 60, 90])
    together = jpeg(images, quality.view(3, 1, 1, 1))
    for i, q in enumerate(quality.int().tolist()):
        assert torch.equal(together[i : i + 1], ours(images[i : i + 1], q))
        assert (together[i] - pillow(images[i], q)).abs().mean() * 255 < 1
    assert torch.equal((together * 255).round() / 255, together)  # 8 bits


def test_jpeg_keeps_plain_greys():
    for value in (0, 128, 255):
        plain = torch.full((1, 3, 40, 24), value / 255)
        assert (ours(plain, 90) - plain).abs().max() * 255 < 1.5


# --- shrinking ---


def test_a_sphere_shrunk_is_a_smaller_sphere():
    batch = noisy(2, size=256)
    small = resize_batch(batch, 64)
    normal, mask = sphere(64)
    inside = small["mask"][0, 0] > 0
    assert not (inside & ~torch.from_numpy(mask)).any() and inside.sum() > 0.9 * mask.sum()
    error = angle_deg(small["normal"][0].permute(1, 2, 0)[inside].numpy(), normal[inside.numpy()])
    assert error.mean() < 0.3
    assert torch.allclose(small["normal"].norm(dim=1, keepdim=True), small["mask"], atol=1e-5)
    assert torch.allclose(small["image"], functional.avg_pool2d(batch["image"], 4), atol=1e-6)
    assert {k: list(v.shape[2:]) for k, v in small.items()} == {k: [64, 64] for k in small}


def test_what_lies_off_the_mask_does_not_bend_the_edge():
    batch = noisy(1, size=128)
    stray = {**batch, "normal": torch.where(batch["mask"] > 0, batch["normal"], torch.tensor(0.577))}
    assert same(resize_batch(stray, 64), resize_batch(batch, 64))


def test_the_same_size_stays_as_it_is():
    batch = noisy(2)
    assert batch["normal"][batch["mask"].expand_as(batch["normal"]) == 0].any()
    assert same(resize_batch(batch, 64), {**batch, "normal": batch["normal"] * batch["mask"]})
    with pytest.raises(ValueError, match="at most the batch's 64 pixels, got 128"):
        resize_batch(batch, 128)


# --- all at once ---


def test_all_kinds_give_other_photographs_of_the_same_face(face):
    small = resize_batch(face, 128)
    batch, seeds = copies(small, 64), torch.arange(64) + 100
    done = augment(batch, seeds, KINDS)
    assert all(torch.isfinite(v).all() and v.dtype == torch.float32 for v in done.values())
    assert {k: v.shape for k, v in done.items()} == {k: v.shape for k, v in batch.items()}
    assert done["image"].min() >= 0 and done["image"].max() <= 1
    assert done["trust"].min() >= 0 and done["trust"].max() <= 1
    assert ((done["image"] - batch["image"]).abs().mean((1, 2, 3)) > 0.01).all()
    assert (done["mask"].mean((1, 2, 3)) > 0.4 * small["mask"].mean()).all()
    assert torch.allclose(done["normal"].norm(dim=1, keepdim=True), done["mask"], atol=1e-5)
    assert (done["image"].std((2, 3)).mean(1) > 0.03).all()  # none is flat
