"""Corpora on disk, in their true layouts, made small here."""

import json
import os
import pickle
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from buckets import put, served_bucket
from numpy.typing import NDArray
from pyarrow import parquet as pq

from casfne import images, sources
from casfne.corpora.catalogue import open_corpus, open_inputs
from casfne.corpora.record import Photo, five_points, unique_names
from casfne.errors import InputError

FIVE = np.array([[69.0, 109], [106, 113], [77, 142], [73, 152], [108, 154]])


def picture(path: Path, size: int = 32) -> Path:
    images.write_image(path, np.full((size, size, 3), 99, np.uint8))
    return path


def sixty_eight() -> NDArray[np.float64]:
    """68 points whose reduction is FIVE."""
    points = np.zeros((68, 2))
    ring = np.array([[-3.0, 0], [-1, -2], [1, -2], [3, 0], [1, 2], [-1, 2]])
    points[36:42], points[42:48] = FIVE[0] + ring, FIVE[1] + ring
    points[30], points[48], points[54] = FIVE[2:]
    return points


def celeba(root: Path) -> Path:
    lines = ["2", "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x ..."]
    for name in ("000001.jpg", "000002.jpg"):
        picture(root / "img_align_celeba" / name)
        lines.append(f"{name}  " + "  ".join(str(int(v)) for v in FIVE.ravel()))
    (root / "list_landmarks_align_celeba.txt").write_text("\n".join(lines) + "\n")
    return root


def ffhq(root: Path) -> Path:
    entries = {}
    for i in (0, 1001):
        name = f"images1024x1024/{i // 1000 * 1000:05d}/{i:05d}.png"
        picture(root / name)
        entries[str(i)] = {"image": {"file_path": name, "face_landmarks": sixty_eight().tolist()}}
    (root / "ffhq-dataset-v2.json").write_text(json.dumps(entries))
    return root


def w300(root: Path) -> Path:
    for name in ("01_Indoor/indoor_001", "02_Outdoor/outdoor_001"):
        picture(root / f"{name}.png")
        body = "\n".join(f"{x:.6f} {y:.6f}" for x, y in sixty_eight() + 1)
        (root / f"{name}.pts").write_text(f"version: 1\nn_points: 68\n{{\n{body}\n}}\n")
    return root


def test_sixty_eight_points_reduce_to_five_with_the_left_eye_of_the_picture_first() -> None:
    np.testing.assert_allclose(five_points(sixty_eight()), FIVE, atol=1e-9)
    with pytest.raises(ValueError, match="68"):
        five_points(np.zeros((67, 2)))


@pytest.mark.parametrize(
    ("name", "build", "ids"),
    [
        ("celeba", celeba, ["000001", "000002"]),
        ("ffhq", ffhq, ["00000", "01001"]),
        ("300w", w300, ["01_Indoor/indoor_001", "02_Outdoor/outdoor_001"]),
    ],
)
def test_each_corpus_gives_ids_paths_and_points(name, build, ids, tmp_path: Path) -> None:
    photos = open_corpus(name, build(tmp_path))
    assert [p.image_id for p in photos] == ids
    assert {p.corpus for p in photos} == {name}
    for photo in photos:
        assert Path(photo.path).is_file()
        np.testing.assert_allclose(photo.points, FIVE, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "build", "missing"),
    [
        ("celeba", celeba, "list_landmarks_align_celeba.txt"),
        ("ffhq", ffhq, "ffhq-dataset-v2.json"),
        ("300w", w300, "*/*.pts"),
    ],
)
def test_a_corpus_without_landmarks_is_refused_by_name(name, build, missing, tmp_path: Path) -> None:
    for path in list(build(tmp_path).glob(missing)):
        path.unlink()
    with pytest.raises(InputError, match=r"landmarks file") as error:
        open_corpus(name, tmp_path)
    assert str(tmp_path) in str(error.value)


def test_images_without_points_and_points_without_image_are_both_kept(tmp_path: Path) -> None:
    root = celeba(tmp_path)
    picture(root / "img_align_celeba" / "000003.jpg")
    (root / "img_align_celeba" / "000001.jpg").unlink()
    photos = {p.image_id: p for p in open_corpus("celeba", root)}
    assert list(photos) == ["000001", "000002", "000003"]
    assert photos["000003"].points is None
    assert photos["000001"].points is not None


@pytest.mark.parametrize(
    ("name", "build", "file", "text", "says"),
    [
        ("celeba", celeba, "list_landmarks_align_celeba.txt", "1\nx\n000001.jpg 1 2\n", ":3:"),
        ("ffhq", ffhq, "ffhq-dataset-v2.json", '{"7": {"image": {"file_path": "x.png"}}}', "'7'"),
        ("ffhq", ffhq, "ffhq-dataset-v2.json", "[", "not the JSON"),
        ("300w", w300, "01_Indoor/indoor_001.pts", "version: 1\n{\n1 2\n}", "68"),
    ],
)
def test_a_landmarks_file_that_makes_no_sense_is_named(name, build, file, text, says, tmp_path) -> None:
    (build(tmp_path) / file).write_text(text)
    with pytest.raises(InputError, match=says) as error:
        open_corpus(name, tmp_path)
    assert file in str(error.value)


def test_unknown_and_empty_corpora_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown corpus 'faces'"):
        open_corpus("faces", tmp_path)
    with pytest.raises(InputError, match="no images found"):
        open_corpus("folder", tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        open_corpus("300w", tmp_path / "nowhere")
    with pytest.raises(InputError, match="one root"):
        open_inputs([tmp_path, tmp_path], "celeba")


def test_folders_give_pictures_at_any_depth_and_files_named_outright_always_count(tmp_path: Path) -> None:
    picture(tmp_path / "set" / "deep" / "er" / "A.PNG".lower())
    picture(tmp_path / "set" / ".hidden" / "b.png")
    (tmp_path / "set" / "notes.txt").write_text("not a picture")
    (tmp_path / "list.csv").write_text("named outright")
    photos = open_inputs([tmp_path / "set", tmp_path / "list.csv"])
    assert [p.image_id for p in photos] == ["deep/er/a", "list"]
    assert all(p.points is None for p in photos)


def test_what_is_passed_over_is_counted_and_photographs_of_every_kind_are_found(tmp_path: Path, caplog) -> None:
    kinds = ["a.JPEG", "b.gif", "c.jp2", "d.avif", "e.jfif", "f.heic"]
    for name in (*kinds, "notes.txt", "more.txt", "archive.zip", "README", ".hidden.txt"):
        (tmp_path / name).write_bytes(b"")
    assert sorted(Path(p.path).name for p in open_inputs([tmp_path])) == kinds
    assert [record.getMessage() for record in caplog.records] == [
        "passed over, as no pictures by their names: 2 .txt, 1 without a suffix, 1 .zip"
    ]


def test_a_pattern_leads_into_archives(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    for name in ("x", "y"):
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as archive:
            archive.write(tmp_path / "a.png", f"{name}.png")
    for pattern in (tmp_path / "*", tmp_path / "**" / "*"):
        assert sorted(p.image_id for p in open_inputs([pattern])) == ["a", "x", "y"]


def test_patterns_expand_and_an_input_given_twice_counts_once(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "sub/c.png"):
        picture(tmp_path / name)
    assert len(open_inputs([tmp_path / "*.png", tmp_path / "a.png"])) == 2
    assert [p.image_id for p in open_inputs([tmp_path / "**" / "*.png"])] == ["a", "b", "sub/c"]
    with pytest.raises(InputError, match=r"\*\.jpg"):
        open_inputs([tmp_path / "*.jpg"])


def test_names_that_clash_grow_until_they_differ() -> None:
    pairs = [("a.png", "/one/a.png"), ("b.png", "/one/b.png"), ("b.jpg", "/one/b.jpg"), ("a.png", "/two/a.png")]
    assert unique_names(pairs) == ["/one/a.png", "b.png", "b.jpg", "/two/a.png"]


# --- what a corpus says of its images ---


def lists(root: Path, names: tuple[str, ...] = ("000001.jpg", "000002.jpg")) -> Path:
    """The partition and attribute lists of CelebA."""
    (root / "list_eval_partition.txt").write_text("".join(f"{name} {i % 3}\n" for i, name in enumerate(names)))
    body = "".join(f"{name} {-1 + 2 * (i % 2):2d}  1\n" for i, name in enumerate(names))
    (root / "list_attr_celeba.txt").write_text(f"{len(names)}\nMale Young\n{body}")
    return root


def test_celeba_carries_partition_and_attributes(tmp_path: Path) -> None:
    one, two = open_corpus("celeba", lists(celeba(tmp_path)))
    assert one.attributes == {"partition": "train", "Male": False, "Young": True}
    assert two.attributes == {"partition": "valid", "Male": True, "Young": True}
    assert {name: type(value) for name, value in two.attributes.items()} == {
        "partition": str,
        "Male": bool,
        "Young": bool,
    }


def test_an_image_that_a_list_leaves_out_has_no_such_attribute(tmp_path: Path) -> None:
    one, two = open_corpus("celeba", lists(celeba(tmp_path), ("000002.jpg",)))
    assert dict(one.attributes) == {} and len(one.attributes) == 0 and "Male" not in one.attributes
    assert two.attributes == {"partition": "train", "Male": False, "Young": True}


def test_celeba_is_the_same_from_its_zip_and_from_its_official_folders(tmp_path: Path) -> None:
    root = lists(celeba(tmp_path))
    plain = open_corpus("celeba", root)
    with zipfile.ZipFile(root / "img_align_celeba.zip", "w") as archive:
        for path in sorted((root / "img_align_celeba").iterdir()):
            archive.write(path, f"img_align_celeba/{path.name}")
    shutil.rmtree(root / "img_align_celeba")
    for zipped in (open_corpus("celeba", root), open_corpus("celeba", root / "img_align_celeba.zip")):
        assert_same(zipped, plain)
        assert zipped[0].path == f"{root}/img_align_celeba.zip::img_align_celeba/000001.jpg"
    for folder, pattern in {"Img": "*.zip", "Anno": "list_[al]*", "Eval": "list_eval*"}.items():
        (root / folder).mkdir()
        for path in root.glob(pattern):
            path.rename(root / folder / path.name)
    assert_same(open_corpus("celeba", root), plain)


def assert_same(photos: list[Photo], others: list[Photo]) -> None:
    assert [(p.image_id, p.box, dict(p.attributes)) for p in photos] == [
        (p.image_id, p.box, dict(p.attributes)) for p in others
    ]
    for photo, other in zip(photos, others, strict=True):
        assert (photo.points is None) == (other.points is None)
        if photo.points is not None:
            np.testing.assert_array_equal(photo.points, other.points)
        assert images.read_image(sources.read_bytes(photo.path)).shape == (32, 32, 3)


def test_celeba_in_the_wild_has_points_and_boxes(tmp_path: Path) -> None:
    root = celeba(tmp_path)
    (root / "img_align_celeba").rename(root / "img_celeba")
    (root / "list_landmarks_align_celeba.txt").rename(root / "list_landmarks_celeba.txt")
    boxes = "2\nimage_id x_1 y_1 width height\n000001.jpg    95  71 226 313\n000002.jpg  72  94 221 306\n"
    (root / "list_bbox_celeba.txt").write_text(boxes)
    one, _ = open_corpus("celeba_wild", root)
    assert one.box == (95, 71, 226, 313)
    np.testing.assert_array_equal(one.points, FIVE)
    (root / "list_landmarks_celeba.txt").unlink()
    one, two = open_corpus("celeba_wild", root)
    assert (one.points, two.box) == (None, (72, 94, 221, 306))
    (root / "list_bbox_celeba.txt").unlink()
    with pytest.raises(InputError, match=r"list_landmarks_celeba\.txt: no such landmarks file"):
        open_corpus("celeba_wild", root)


def test_celebamask_knows_where_its_images_come_from(tmp_path: Path) -> None:
    for name in ("0.jpg", "1.jpg"):
        picture(tmp_path / "CelebA-HQ-img" / name)
    mapping = "idx     orig_idx     orig_file\n0           119613         119614.jpg\n1  99094  099095.jpg\n"
    (tmp_path / "CelebA-HQ-to-CelebA-mapping.txt").write_text(mapping)
    (tmp_path / "CelebAMask-HQ-attribute-anno.txt").write_text("2\nMale Young \n0.jpg  -1 1\n1.jpg  1 -1\n")
    (tmp_path / "list_eval_partition.txt").write_text("119614.jpg 0\n099095.jpg 2\n")
    zero, one = open_corpus("celebamask", tmp_path)
    assert zero.attributes == {"partition": "train", "Male": False, "Young": True, "celeba_image_id": "119614"}
    assert one.attributes == {"partition": "test", "Male": True, "Young": False, "celeba_image_id": "099095"}
    assert zero.points is None and zero.image_id == "0"


def test_ffhq_gives_category_and_its_thumbnails_an_eighth_of_the_points(tmp_path: Path) -> None:
    root = ffhq(tmp_path)
    entries = json.loads((root / "ffhq-dataset-v2.json").read_text())
    entries["0"] |= {"category": "training", "metadata": {"license": "CC0", "country": ""}}
    (root / "ffhq-dataset-v2.json").write_text(json.dumps(entries))
    assert open_corpus("ffhq", root)[0].attributes == {"category": "training", "license": "CC0"}
    (root / "images1024x1024").rename(root / "thumbnails128x128")
    first, second = open_corpus("ffhq_thumbnails", root)
    np.testing.assert_allclose(first.points, (FIVE + 0.5) / 8 - 0.5)
    assert first.corpus == "ffhq_thumbnails" and dict(second.attributes) == {}
    assert Path(first.path).is_file()


def test_300w_says_indoor_or_outdoor(tmp_path: Path) -> None:
    indoor, outdoor = open_corpus("300w", w300(tmp_path))
    assert indoor.attributes == {"indoor": True} and outdoor.attributes == {"indoor": False}


@pytest.mark.parametrize(
    ("name", "build", "file", "text", "says"),
    [
        ("celeba", celeba, "list_eval_partition.txt", "000001.jpg 7\n", "expected 0, 1 or 2"),
        ("celeba", celeba, "list_attr_celeba.txt", "1\nMale Young\n000001.jpg 1\n", ":3: expected a name and 2"),
        ("celeba", celeba, "list_attr_celeba.txt", "1\nMale Young\n000001.jpg 1 x\n", "expected numbers"),
        ("celeba", celeba, "list_landmarks_align_celeba.txt", "1\nx\n../a.jpg" + " 1" * 10, ":3:.*no file name"),
        ("celeba", celeba, "list_landmarks_align_celeba.txt", ("1\nx" + "\na.jpg" + " 1" * 10) * 2, "expected a name"),
        ("ffhq", ffhq, "ffhq-dataset-v2.json", '{"7": {"image": {"file_path": "../x.png"}}}', "'7'.*leads out"),
        ("ffhq", ffhq, "ffhq-dataset-v2.json", "[" * 100_000, "not the JSON"),
    ],
)
def test_lists_that_make_no_sense_or_climb_are_named(name, build, file, text, says, tmp_path) -> None:
    (build(tmp_path) / file).write_text(text)
    with pytest.raises(InputError, match=says) as error:
        open_corpus(name, tmp_path)
    assert file in str(error.value)


# --- lists, archives, tables ---


def test_a_list_names_files_from_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("set/a.png", "set/deep/b.png"):
        picture(tmp_path / name)
    (tmp_path / "set" / "list.txt").write_bytes(b"deep/b.png\r\n\n./a.png\nmissing.png\na.png\n")
    monkeypatch.chdir(tmp_path)
    photos = open_inputs(["set/list.txt"])
    assert [p.image_id for p in photos] == ["deep/b", "a", "missing"]
    assert [p.path for p in photos] == ["set/deep/b.png", "set/a.png", "set/missing.png"]


@pytest.mark.parametrize("line", ["../a.png", "/etc/passwd", "deep/../../a.png"])
def test_a_list_that_leads_out_of_its_folder_is_refused_by_line(line: str, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"a.png\n{line}\n")
    with pytest.raises(InputError, match=r"list\.txt:2: .*leads out of the folder"):
        open_inputs([tmp_path / "list.txt"])


def test_a_link_in_a_list_or_pattern_does_not_lead_out_either(tmp_path: Path) -> None:
    picture(tmp_path / "out" / "secret.png")
    picture(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "link.png").symlink_to("../out/secret.png")
    (tmp_path / "in" / "list.txt").write_text("link.png\na.png\n")
    for given in ("list.txt", "*.png", "**/*.png", ""):
        photos = {p.image_id: p for p in open_inputs([tmp_path / "in" / given])}
        assert set(photos) == {"a", "link"}
        assert images.read_image(sources.read_bytes(photos["a"].path)).any()
        with pytest.raises(InputError, match="a link that leaves"):
            sources.read_bytes(photos["link"].path)


def test_patterns_take_the_pictures_of_folders_that_they_match(tmp_path: Path) -> None:
    for name in ("set1/a.png", "set2/deep/b.png", "other/c.png"):
        picture(tmp_path / name)
    (tmp_path / "set1" / "notes.txt").write_text("no picture")
    for pattern in ("set*", "**/set*"):
        assert sorted(Path(p.path).name for p in open_inputs([tmp_path / pattern])) == ["a.png", "b.png"]


def test_names_that_are_no_text_give_ids_and_paths_that_are(tmp_path: Path) -> None:
    names = ["new\nline.png", os.fsdecode(b"\xff.png"), "a%0A.png", "a\n.png", "plain.png"]
    for name in names:
        picture(tmp_path / "whole.png")
        os.rename(tmp_path / "whole.png", tmp_path / name)
    photos = open_inputs([tmp_path])
    assert sorted(p.image_id for p in photos) == ["%FF", "a%0A", "a%250A", "new%0Aline", "plain"]
    for photo in photos:
        assert (photo.image_id + photo.path).encode("utf-8").decode().isprintable()
        assert images.read_image(sources.read_bytes(photo.path)).shape == (32, 32, 3)


def test_a_webdataset_tar_gives_pictures_with_what_lies_beside_them(tmp_path: Path) -> None:
    for i in range(3):
        picture(tmp_path / f"{i:05d}.png")
        (tmp_path / f"{i:05d}.json").write_text(json.dumps({"Male": bool(i % 2), "score": i / 2 or 0, "more": [1]}))
        (tmp_path / f"{i:05d}.cls").write_text(f"{i}\n")
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for path in sorted(tmp_path.glob("0*")):
            archive.add(path, path.name)
    for photos in (open_corpus("tar", tmp_path / "x.tar"), open_corpus("tar", tmp_path)):
        assert [p.image_id for p in photos] == ["00000", "00001", "00002"]
        assert {p.corpus for p in photos} == {"tar"}
        assert photos[1].attributes == {"Male": True, "score": 0.5, "cls": 1}
        assert isinstance(photos[0].attributes["score"], float)
        assert images.read_image(sources.read_bytes(photos[1].path)).shape == (32, 32, 3)
    assert [p.image_id for p in open_inputs([tmp_path / "x.tar"])] == ["00000", "00001", "00002"]


@pytest.mark.parametrize("shape", ["struct", "bytes"])
def test_a_parquet_file_gives_a_picture_a_row(shape: str, tmp_path: Path) -> None:
    content = picture(tmp_path / "a.png").read_bytes()
    cell = {"bytes": content, "path": "a.png"} if shape == "struct" else content
    table = {"image": [cell] * 3, "Male": [True, False, None], "caption": ["x", "y", "z"], "emb": [[1.0]] * 3}
    pq.write_table(pa.table(table), tmp_path / "set.parquet")
    photos = open_corpus("parquet", tmp_path / "set.parquet")
    assert [p.image_id for p in photos] == ["set/00000000", "set/00000001", "set/00000002"]
    assert photos[1].attributes == {"Male": False, "caption": "y"} and photos[2].attributes == {"caption": "z"}
    assert images.read_image(sources.read_bytes(photos[2].path)).shape == (32, 32, 3)
    pq.write_table(pa.table(table | {"image_id": ["p.1", "p.2", "q"]}), tmp_path / "set.parquet")
    assert [p.image_id for p in open_corpus("parquet", tmp_path)] == ["p.1", "p.2", "q"]
    assert len(open_inputs([tmp_path / "set.parquet", tmp_path / "a.png"])) == 4


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("x.tar.gz", b"x", "unpack it first"),
        ("x.tar", b"<html>", "not a whole .tar"),
        ("x.zip", b"", "not a whole .zip"),
        ("x.parquet", b"PAR1", "not a whole .*arquet"),
    ],
)
def test_archives_that_cannot_be_used_are_named(file: str, content: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / file).write_bytes(content)
    with pytest.raises(InputError, match=says) as error:
        open_inputs([tmp_path / file])
    assert file in str(error.value)


# --- what travels ---


def test_photos_pickle_without_the_columns_of_the_whole_corpus(tmp_path: Path) -> None:
    names = tuple(f"{i:06d}.jpg" for i in range(1, 3001))
    root = lists(celeba(tmp_path), names)
    body = "".join(f"{name} 69 109 106 113 77 142 73 152 108 154\n" for name in names)
    (root / "list_landmarks_align_celeba.txt").write_text(f"3000\npoints\n{body}")
    photos = open_corpus("celeba", root)
    assert len(photos) == 3000
    sent = pickle.dumps(photos[:10])
    assert len(sent) < 5000
    for photo, other in zip(photos[:10], pickle.loads(sent), strict=True):
        assert (photo.image_id, photo.path, photo.attributes) == (other.image_id, other.path, other.attributes)
        np.testing.assert_array_equal(photo.points, other.points)
        assert type(other.attributes) is dict


# --- buckets ---


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with served_bucket() as uri:
        yield uri


@pytest.mark.parametrize(("name", "build"), [("celeba", celeba), ("ffhq", ffhq), ("300w", w300), ("folder", w300)])
def test_a_corpus_in_a_bucket_is_the_same_as_on_disk(name, build, bucket: str, tmp_path: Path) -> None:
    build(tmp_path)
    files = {p.relative_to(tmp_path).as_posix(): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    put(f"{bucket}/{name}", files)
    stored = open_corpus(name, f"{bucket}/{name}")
    assert_same(stored, open_corpus(name, tmp_path))
    assert all(p.path.startswith(f"{bucket}/{name}/") for p in stored)


def test_patterns_lists_and_single_objects_of_a_bucket(bucket: str, tmp_path: Path) -> None:
    content = picture(tmp_path / "a.png").read_bytes()
    put(f"{bucket}/set", {"a.png": content, "d/b.png": content, "d/c.jpg": content, "l.txt": b"d/b.png\nnone.png\n"})
    assert [p.image_id for p in open_inputs([f"{bucket}/set/a.png"])] == ["a"]
    assert [p.image_id for p in open_inputs([f"{bucket}/set/**/*.png"])] == ["a", "d/b"]
    assert [p.image_id for p in open_inputs([f"{bucket}/set/d*"])] == ["d/b", "d/c"]
    assert [p.image_id for p in open_inputs([f"{bucket}/set/l.txt"])] == ["d/b", "none"]
    with pytest.raises(InputError, match="no such file or folder"):
        open_inputs([f"{bucket}/set/x.png"])
