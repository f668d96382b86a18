"""Corpora on disk, in their true layouts, made small here."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from casfne import images
from casfne.corpora.catalogue import open_corpus, open_inputs
from casfne.corpora.record import five_points, unique_names
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


def test_patterns_expand_and_an_input_given_twice_counts_once(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "sub/c.png"):
        picture(tmp_path / name)
    assert len(open_inputs([tmp_path / "*.png", tmp_path / "a.png"])) == 2
    assert [p.image_id for p in open_inputs([tmp_path / "**" / "*.png"])] == ["a", "b", "sub/c"]
    with pytest.raises(InputError, match=r"\*\.jpg"):
        open_inputs([tmp_path / "*.jpg"])


def test_names_that_clash_grow_until_they_differ() -> None:
    root, other = Path("/one"), Path("/two")
    pairs = [(root / "a.png", root), (root / "b.png", root), (root / "b.jpg", root), (other / "a.png", other)]
    assert unique_names(pairs) == ["/one/a.png", "b.png", "b.jpg", "/two/a.png"]
