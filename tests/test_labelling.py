"""Labelling: photographs to rows, and the fleet that survives what happens to it."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import ray
from chaos import ray_here, snapshot
from numpy.typing import NDArray

from casfne import images, normals, schema, table
from casfne.corpora.catalogue import open_inputs
from casfne.corpora.record import Photo
from casfne.errors import InputError
from casfne.images import Crop
from casfne.labelling import batches, faces, fleet, quality, shards, stages
from casfne.labelling import label as steps
from casfne.labelling.output import Output
from casfne.labelling.progress import Meter, Progress
from casfne.model.cascade import Cascade, CascadeConfig
from casfne.model.export import export
from casfne.normals import sphere

POINTS = np.array([[40.0, 50], [80, 50], [60, 72], [45, 95], [75, 95]])


class StandIn:
    """A predictor: a bump, steeper where the crop is bright; one refinement."""

    name, sha256, refinements, precision = "stand-in", "0" * 64, 1, "fp32"

    def assess(self, crops: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        x, y = np.meshgrid(np.linspace(-0.6, 0.6, 256), np.linspace(0.6, -0.6, 256))
        bump = np.stack([x, y, np.sqrt(1 - x**2 - y**2)], -1)
        steeper = bump * (1 + [0.2, 0.2, 0] * (crops / 255))
        stages = normals.normalise(np.stack([np.broadcast_to(bump, steeper.shape), steeper], 1))
        return stages, 1 + 2 * normals.angle_deg(stages[:, -1], stages[:, -2])


class Picky(StandIn):
    """Fails on a crop of twos, and gives no numbers for one of threes."""

    largest = 0

    def assess(self, crops: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        self.largest = max(self.largest, len(crops))
        if (crops == 2).all(axis=(1, 2, 3)).any():
            raise MemoryError("too much")
        stages, expected = super().assess(crops)
        stages[(crops == 3).all(axis=(1, 2, 3))] = np.nan
        return stages, expected


class Middle:
    """Finds one face, in the middle; none in a black image."""

    identity = "middle"

    def __call__(self, image: NDArray[np.uint8]) -> list[Crop]:
        return [images.centre_crop(*image.shape[:2])] if image.any() else []


def draw(folder: Path, count: int) -> list[Photo]:
    """Photos of noise with points, as a corpus would give them."""
    random = np.random.default_rng(0)
    for i in range(count):
        images.write_image(folder / f"{i:03d}.png", random.integers(0, 255, (130, 120, 3), dtype=np.uint8))
    return [Photo("noise", f"{i:03d}", str(folder / f"{i:03d}.png"), POINTS) for i in range(count)]


def run_fleet(photos: list[Photo], out: Path, make: type[StandIn] = StandIn, **options: Any) -> shards.Summary:
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test
    options = {"detector": faces.Dlib(), "shard_rows": 3, "batch": 2, "gpu": False} | options
    return fleet.label(photos, out, make, steps.Identity.of(make()), **options)


# --- one photograph ---


def break_files(folder: Path) -> dict[str, Path]:
    """Files that are no whole picture, by what is wrong with them."""
    whole = images.encode_image(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8), ".jpg")
    contents = {"truncated": whole[: len(whole) // 2], "empty": b"", "text": b"this is text"}
    for name, content in contents.items():
        (folder / f"{name}.jpg").write_bytes(content)
    return {name: folder / f"{name}.jpg" for name in contents}


@pytest.mark.parametrize(
    ("kind", "says"),
    [("truncated", "damaged"), ("empty", "empty file"), ("text", "not an image"), ("missing", "cannot be read")],
)
def test_what_is_no_picture_becomes_one_unreadable_entry(kind, says, tmp_path) -> None:
    break_files(tmp_path)
    (entry,) = steps.decode(Photo("folder", kind, f"{kind}.jpg"), Middle(), tmp_path)
    assert (entry.status, entry.face_index) == ("unreadable", steps.NO_FACE_INDEX)
    assert says in entry.reason
    assert str(tmp_path) not in entry.reason


def test_no_face_and_the_unforeseen_become_entries_too(tmp_path: Path) -> None:
    class Fails:
        identity = "fails"

        def __call__(self, image: NDArray[np.uint8]) -> list[Crop]:
            raise RuntimeError("the detector broke")

    images.write_image(tmp_path / "black.png", np.zeros((50, 60, 3), np.uint8))
    photo = Photo("folder", "black", str(tmp_path / "black.png"))
    (none,) = steps.decode(photo, Middle())
    assert (none.status, none.face_index, none.size) == ("no_face", -1, (50, 60))
    (error,) = steps.decode(photo, Fails())
    assert (error.status, error.reason) == ("error", "RuntimeError: the detector broke")


def test_the_crop_transform_puts_points_back_on_the_photograph(tmp_path: Path) -> None:
    image = np.zeros((400, 300, 3), np.uint8)
    points = POINTS * 2.5 + [13, 60]
    nose = np.rint(points[2]).astype(int)
    image[nose[1] - 3 : nose[1] + 4, nose[0] - 3 : nose[0] + 4] = 255
    images.write_image(tmp_path / "dot.png", image)
    (face,) = steps.decode(Photo("noise", "dot", str(tmp_path / "dot.png"), points), Middle())
    (labelled,) = steps.predict([face], StandIn(), 4)
    row = steps.to_row(labelled, steps.Identity.of(StandIn()))
    y, x = np.argwhere(face.pixels[..., 0] > 127).mean(0)
    np.testing.assert_allclose(np.reshape(row["crop_to_image"], (2, 3)) @ [x, y, 1], nose, atol=0.5)
    assert (row["source_height"], row["source_width"]) == (400, 300)
    assert row["confidence_deg"] == pytest.approx(1 + 2 * row["last_move_deg"], rel=1e-4)
    assert set(row) == set(schema.COLUMNS)


def entries(count: int) -> list[steps.Face]:
    photo = Photo("noise", "x", "x.png")
    crop, pixels = Crop(0, 0, 256), np.zeros((256, 256, 3), np.uint8)
    faces_ok = [steps.Face(photo, i, "ok", "", (256, 256), crop, pixels + np.uint8(i)) for i in range(count)]
    return [*faces_ok, steps.failed(photo, "earlier")]


def test_a_face_on_which_the_model_fails_does_not_take_its_batch_with_it() -> None:
    predictor = Picky()
    labelled = steps.predict(entries(6), predictor, 4)
    assert [e.face.status for e in labelled] == ["ok", "ok", "error", "error", "ok", "ok", "error"]
    assert [e.face.face_index for e in labelled] == [0, 1, 2, 3, 4, 5, -1]
    assert labelled[2].face.reason == "MemoryError: too much"
    assert "not finite" in labelled[3].face.reason
    assert labelled[6].face.reason == "earlier"
    assert predictor.largest == 4


def test_the_numbers_measure_what_they_say() -> None:
    everywhere = np.ones((256, 256), bool)
    flat = np.broadcast_to(np.float32([0, 0, 1]), (256, 256, 3))
    tilted = np.broadcast_to(normals.direction(10, 0), (256, 256, 3))
    assert quality.last_move_deg(np.stack([flat, tilted]), everywhere) == pytest.approx(10, abs=1e-3)
    assert np.isnan(quality.last_move_deg(flat[None], everywhere))
    assert quality.roughness_deg(flat, everywhere) == 0
    checker = np.where(np.indices((256, 256)).sum(0)[..., None] % 2 == 0, flat, tilted)
    assert quality.roughness_deg(checker, everywhere) == pytest.approx(10, abs=1e-3)
    ball, inside = sphere(256)
    assert quality.facing_away(ball, inside) == 0
    assert quality.facing_away(-ball, inside) == 1
    assert quality.coverage(quality.face_mask(Crop(-128, 0, 256), 256, 256)) == pytest.approx(0.5, abs=0.01)
    assert quality.coverage(quality.face_mask(Crop(0, 0, 256), 256, 256)) == 1
    white = np.full((256, 256, 3), 255, np.uint8)
    assert (quality.exposure(white, inside), quality.sharpness(white)) == (1, 0)


# --- finding faces ---


def test_dlib_finds_the_faces_of_real_photographs(shared_data: Path) -> None:
    found = {
        photo.image_id: len(faces.find(images.read_image(photo.path), photo, faces.Dlib()))
        for photo in open_inputs([shared_data / "portraits"])
    }
    crops = {name: count for name, count in found.items() if name.startswith("crops_256/")}
    assert crops == {f"crops_256/{i:02d}": 1 for i in range(8)}
    assert found["full/one_face"] == found["full/profile_a"] == found["full/profile_b"] == 1
    assert found["full/two_faces"] == found["full/many_faces_4k"] == 2


def test_faces_come_largest_first() -> None:
    class Several:
        identity = "several"

        def __call__(self, image: NDArray[np.uint8]) -> list[Crop]:
            return [Crop(9, 5, 10), Crop(0, 5, 10), Crop(3, 3, 30), Crop(9, 2, 10)]

    found = faces.find(np.zeros((50, 50, 3), np.uint8), Photo("folder", "x", "x"), Several())
    assert found == [Crop(3, 3, 30), Crop(9, 2, 10), Crop(0, 5, 10), Crop(9, 5, 10)]


def test_yunet_points_are_taken_in_the_order_of_the_crop_convention() -> None:
    row = np.zeros(15, np.float32)
    row[4:14] = ((POINTS + 0.5) * 0.5 - 0.5).ravel()  # the person's right eye first: the picture's left
    assert faces.yunet_crop(row, 0.5) == images.crop_from_points(POINTS)


def test_a_detector_model_that_cannot_be_used_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "other.onnx").write_bytes(b"no model")
    export(Cascade(CascadeConfig(4, 1)), tmp_path / "ours.onnx", {})  # which OpenCV loads, but finds no faces
    for name in ("missing.onnx", "other.onnx", "ours.onnx"):
        with pytest.raises(InputError, match=name):
            faces.YuNet(tmp_path / name)


# --- plans and fingerprints ---

OLD, NEW = (steps.Identity("m", digit * 64, "1", 2, "fp32") for digit in "01")


def write_plan(out: Path, wanted: list[shards.Shard], who: steps.Identity = OLD) -> None:
    made_by = json.dumps(shards.maker(who, faces.Dlib()))
    for shard in wanted:
        about = {"fingerprint": shard.fingerprint, "made_by": made_by}
        about["checksums"] = json.dumps({photo.image_id: steps.checksum(photo) for photo in shard.photos})
        Output(out).write(shard.part, lambda file, about=about: schema.write(file, [], about))


def survey(out: Path, wanted: list[shards.Shard], who: steps.Identity = OLD, **options: bool) -> shards.Survey:
    return shards.survey(Output(out), wanted, shards.maker(who, faces.Dlib()), **options)


def test_shards_are_fixed_and_their_fingerprint_covers_what_decides_them(tmp_path: Path) -> None:
    photos = draw(tmp_path, 7)

    def prints(photos: list[Photo], who: steps.Identity = OLD, how: faces.Detector | None = None, **options: Any):
        return [s.fingerprint for s in shards.plan(photos, 3, who, how or faces.Dlib(), steps.Options(**options))]

    before = prints(photos)
    plan = shards.plan(photos, 3, OLD, faces.Dlib())
    assert [s.part for s in plan] == [f"corpus=noise/part-{i:05d}.parquet" for i in range(3)]
    assert [len(s.photos) for s in plan] == [3, 3, 1]
    assert prints(photos) == before == [s.fingerprint for s in plan]
    for other in (prints(photos, NEW), prints(photos, how=Middle()), prints(photos, encoding="octahedral")):
        assert not set(other) & set(before)
    Path(photos[0].path).write_bytes(b"another size")
    moved = replace(photos[3], points=None, box=(1.0, 2.0, 30.0, 40.0))
    after = prints([*photos[:3], moved, *photos[4:]])
    assert [a == b for a, b in zip(after, before, strict=True)] == [False, False, True]
    with pytest.raises(ValueError, match="twice"):
        prints([photos[0], photos[0]])
    with pytest.raises(InputError, match="no images"):
        prints([])


def test_labels_of_another_run_are_refused_by_name_and_replaced_when_asked(tmp_path: Path) -> None:
    photos, out = draw(tmp_path / "in", 7), tmp_path / "out"
    write_plan(out, shards.plan(photos, 3, OLD, faces.Dlib()))
    wanted = shards.plan(photos, 3, NEW, faces.Dlib())
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    with pytest.raises(InputError, match=r"part-00000\.parquet: .*weights_sha256 was '0000.*3 such files"):
        survey(out, wanted, NEW)
    with pytest.raises(InputError, match=r"part-00000\.parquet: .*other images.*3 such files"):
        survey(out, shards.plan([replace(p, points=None) for p in photos], 3, OLD, faces.Dlib()))
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    found = survey(out, wanted, NEW, overwrite=True)
    assert found.todo == wanted
    shards.clear(Output(out), found.obsolete)
    assert not list(out.rglob("*.parquet"))


def test_labels_of_an_image_that_is_another_one_since_are_refused(tmp_path: Path) -> None:
    photos, out = draw(tmp_path / "in", 7), tmp_path / "out"
    write_plan(out, shards.plan(photos, 3, OLD, faces.Dlib()))
    assert not survey(out, shards.plan(photos, 3, OLD, faces.Dlib())).todo
    later = max(path.stat().st_mtime_ns for path in out.rglob("*.parquet")) + 1
    for photo in photos:
        os.utime(photo.path, ns=(later, later))  # as in a copy
    assert not survey(out, shards.plan(photos, 3, OLD, faces.Dlib())).todo
    content = bytearray(Path(photos[4].path).read_bytes())
    content[-1] ^= 1  # another picture of the same size
    Path(photos[4].path).write_bytes(content)
    os.utime(photos[4].path, ns=(later, later))
    wanted = shards.plan(photos, 3, OLD, faces.Dlib())
    with pytest.raises(InputError, match=r"part-00001\.parquet: an image is another one since .*1 such file"):
        survey(out, wanted)
    found = survey(out, wanted, overwrite=True)
    assert found.todo == [wanted[1]] and found.obsolete == ["_summary.json", wanted[1].part]


def test_leftovers_of_a_larger_run_and_half_written_files_are_found(tmp_path: Path) -> None:
    photos, out = draw(tmp_path / "in", 7), tmp_path / "out"
    write_plan(out, shards.plan(photos, 3, OLD, faces.Dlib()))
    half = out / "corpus=noise" / ".part-00001.parquet.77.tmp"
    half.write_bytes(b"PAR1")
    smaller = shards.plan(photos[:6], 3, OLD, faces.Dlib())
    with pytest.raises(InputError, match=r"part-00002\.parquet.*1 such file"):
        survey(out, smaller)
    found = survey(out, smaller, overwrite=True)
    assert not found.todo
    assert {Path(part).name for part in found.obsolete} == {"part-00002.parquet", half.name, "_summary.json"}
    with pytest.raises(InputError, match="is a file"):
        survey(Path(photos[0].path), smaller, overwrite=True)


def test_a_file_that_is_no_whole_parquet_is_made_again(tmp_path: Path) -> None:
    photos, out = draw(tmp_path / "in", 6), tmp_path / "out"
    wanted = shards.plan(photos, 3, OLD, faces.Dlib())
    write_plan(out, wanted)
    path = out / wanted[1].part
    path.write_bytes(path.read_bytes()[:-20])
    found = survey(out, wanted)
    assert found.todo == wanted[1:]
    assert found.obsolete == ["_summary.json", wanted[1].part]


def test_an_output_inside_an_input_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "in")
    for out in (tmp_path / "in", tmp_path / "in" / "labels", tmp_path / "link" / "labels"):
        with pytest.raises(InputError, match="lies inside the input"):
            shards.refuse_inside(Output(out), [tmp_path / "in"])
    shards.refuse_inside(Output(tmp_path / "inner"), [tmp_path / "in", tmp_path / "in" / "one.jpg"])
    for uri in ("s3://b/faces?region=us-east-1", "s3://b/faces/labels?region=us-east-1"):
        with pytest.raises(InputError, match="lies inside the input"):
            shards.refuse_inside(Output(uri), ["s3://b/faces"])
    shards.refuse_inside(Output("s3://b/faces-labels?region=us-east-1"), ["s3://b/faces", tmp_path])


def test_rows_made_again_take_their_old_places() -> None:
    there = [{"image_id": i, "face_index": k, "old": True} for i, k in (("a", 0), ("b", -1), ("c", 0), ("c", 1))]
    made = [{"image_id": "b", "face_index": 0}, {"image_id": "b", "face_index": 1}]
    assert shards.merge(there, made) == [there[0], *made, *there[2:]]


def test_batches_that_do_not_fit_are_halved_and_stay_so() -> None:
    sizes: list[int] = []

    class Small(StandIn):
        def assess(self, crops: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
            sizes.append(len(crops))
            if len(crops) > 3:
                raise MemoryError
            return super().assess(crops)

    crops = np.arange(9, dtype=np.uint8)[:, None, None, None] * np.ones((1, 256, 256, 3), np.uint8)
    frugal = batches.Frugal(Small())
    for found, whole in zip(frugal.assess(crops), StandIn().assess(crops), strict=True):
        np.testing.assert_array_equal(found, whole)
    assert sizes == [9, 4, 2, 2, 2, 2, 1]
    assert batches.choose(StandIn()) == batches.CPU_BATCH
    with pytest.raises(MemoryError):
        batches.Frugal(Picky()).assess(crops[2:3])


def test_progress_counts_what_is_done_and_says_how_long() -> None:
    told: list[Progress] = []
    meter = Meter(4, 20, told.append)
    meter.add(4, 3, {"damaged_image": 1})
    meter.add(4, 5)
    assert [at.done for at in told] == [4, 8, 12]
    assert (told[0].seconds_left, told[1].images_per_s) == (None, 0)
    assert (told[2].faces, told[2].failures) == (8, {"damaged_image": 1})
    assert told[2].seconds_left == pytest.approx(8 / told[2].images_per_s)


# --- the fleet ---


def test_a_shard_that_cannot_be_written_is_reported_and_leaves_no_marker(tmp_path: Path) -> None:
    (photo,), out = draw(tmp_path / "in", 1), tmp_path / "out"
    identity = steps.Identity.of(StandIn())
    (shard,) = shards.plan([photo], 3, identity, faces.Dlib())
    out.write_text("in the way")
    place, options = Output(out), steps.Options()
    job = stages.Job(place, Path(), StandIn, identity, faces.Dlib(), options, 2, 1, False, False)
    labelled = steps.predict(steps.decode(photo, Middle()), StandIn(), 2)
    failure = stages.write(stages._replaced(stages.block_of(shard, {}), labelled), job)["failure"][0].as_py()
    assert failure
    summary = shards.finish(Output(tmp_path / "nothing"), [shard], {shard.part: failure})
    assert (summary.missing, summary.failed_share) == (1, 1)
    assert summary.failures == [f"{shard.part}: {failure}"]
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize(
    ("has", "gpu", "copies"),
    [
        ({"CPU": 8.0, "memory": 64.0 * 2**30}, True, 8),
        ({"CPU": 8.0, "memory": 5.0 * 2**30}, True, 2),
        ({"CPU": 1.0, "memory": 2.0**30}, True, 1),
        ({"CPU": 16.0, "GPU": 2.0, "memory": 64.0 * 2**30}, True, 2),
        ({"CPU": 16.0, "GPU": 2.0, "memory": 64.0 * 2**30}, False, 16),
    ],
)
def test_there_is_a_copy_of_the_network_for_each_gpu_or_each_cpu_that_memory_allows(
    has, gpu, copies, monkeypatch
) -> None:
    monkeypatch.setattr(ray, "cluster_resources", lambda: has)
    assert fleet._pool(gpu) == copies


@pytest.fixture(scope="module")
def mixed(ray_here, shared_data, tmp_path_factory) -> tuple[list[Photo], Path, shards.Summary, list[Progress]]:
    """Broken files, a picture without a face, one with one, one with two: photos, labels, summary, progress."""
    folder = tmp_path_factory.mktemp("mixed")
    portraits = shared_data / "portraits"
    images.write_image(folder / "plain.png", np.full((200, 200, 3), 90, np.uint8))
    real = [portraits / "crops_256" / "00.png", portraits / "full" / "two_faces.jpg"]
    photos = open_inputs([*break_files(folder).values(), folder / "plain.png", *real])
    seen: list[Progress] = []
    summary = run_fleet(photos, folder / "out", progress=seen.append)
    return photos, folder / "out", summary, seen


def test_every_image_of_a_mixed_folder_is_accounted_for(mixed) -> None:
    photos, out, summary, seen = mixed
    assert (summary.images, summary.faces, summary.missing) == (6, 3, 0)
    assert summary.statuses == {"ok": 3, "no_face": 1, "unreadable": 3, "error": 0}
    assert summary.failed_share == 0.5
    assert len(summary.reasons) == sum(summary.codes.values()) == 3
    assert [(at.done, at.total) for at in seen] == [(0, 6), (3, 6), (6, 6)]
    assert (seen[-1].faces, seen[-1].failures) == (3, summary.codes)
    said = {k: v for part in table.parts(out) for k, v in json.loads(schema.metadata(part)["checksums"]).items()}
    assert said == {photo.image_id: steps.checksum(photo) for photo in photos}
    assert [said[Path(p.path).stem] is None for p in photos] == [not Path(p.path).exists() for p in photos]
    frame = table.read(out)
    assert set(frame["image_id"]) == {p.image_id for p in photos}
    assert frame[frame["image_id"] == "two_faces"]["face_index"].tolist() == [0, 1]
    assert frame[frame["status"] != "ok"]["crop_side"].isna().all()
    assert frame["seconds"].isna().all()
    row = table.read(out, ["normal", "mask"], [("image_id", "==", "00")]).iloc[0]
    assert np.linalg.norm(table.normals(row), axis=-1)[table.mask(row)] == pytest.approx(1, abs=1e-4)


def test_a_run_is_judged_by_its_own_images(mixed, tmp_path: Path) -> None:
    """Whatever else the folder holds; and an image with several bad faces is one image."""
    photos, out, first, _ = mixed
    assert (first.wanted, first.failed) == (6, 3)
    good, bad = ([replace(p, corpus=name) for p in photos] for name in ("good", "bad"))
    ours = Output(tmp_path)
    made = [row for part in table.parts(out) for row in pq.ParquetFile(part).read().to_pylist()]
    for corpus, status in (("good", "ok"), ("bad", "error")):
        rows = [row | {"status": status, "reason_code": "unexpected"} for row in made]
        ours.write(f"corpus={corpus}/part-00000.parquet", lambda file, rows=rows: schema.write(file, rows, {}))
    for name, of, share in (("good", good, 0), ("bad", bad, 1)):
        summary = shards.finish(ours, [shards.Shard(f"corpus={name}/part-00000.parquet", tuple(of), "")], {})
        assert (summary.images, summary.failed_share, bool(summary.reasons)) == (12, share, share == 1)


def test_times_are_written_when_asked_for(mixed, tmp_path: Path) -> None:
    photos, first, _, _ = mixed
    run_fleet(photos, tmp_path / "second", timings=True)
    once, again = (table.read(out, list(schema.COLUMNS)) for out in (first, tmp_path / "second"))
    for column in set(schema.COLUMNS) - {"seconds"}:
        assert once[column].map(repr).equals(again[column].map(repr)), column
    assert (again["seconds"] > 0).all()
    assert (first / "_summary.json").read_text() == (tmp_path / "second" / "_summary.json").read_text()


@pytest.mark.usefixtures("ray_here")
def test_what_a_corpus_says_of_its_images_lies_beside_the_labels(tmp_path: Path) -> None:
    photos, out = draw(tmp_path / "in", 3), tmp_path / "out"
    said = [replace(photo, attributes={"split": "train", "Smiling": i == 1}) for i, photo in enumerate(photos)]
    run_fleet(said, out, detector=Middle())
    frame = pd.read_parquet(out / "_attributes" / "corpus=noise.parquet").set_index("image_id")
    assert frame["Smiling"].tolist() == [False, True, False]
    assert frame["split"].unique().tolist() == ["train"]
    before = snapshot(out)
    run_fleet(said, out, detector=Middle())
    assert snapshot(out) == before
    with pytest.raises(InputError, match=r"_attributes/corpus=noise\.parquet"):
        run_fleet([replace(p, attributes={"split": "test"}) for p in photos], out, detector=Middle())
    assert snapshot(out) == before
    run_fleet(photos, out, detector=Middle(), overwrite=True)
    assert not (out / "_attributes" / "corpus=noise.parquet").exists()


def test_a_run_without_weights_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no weights at"):
        fleet.run(draw(tmp_path / "in", 1), tmp_path / "out", tmp_path / "none.safetensors")
    assert not (tmp_path / "out").exists()
