"""Labels as files of other kinds: what was written is what the rows say, under names that any disk takes."""

from pathlib import Path

import cv2
import numpy as np
import OpenEXR
import pandas as pd
import pytest

from casfne import images, octahedral, table
from casfne.errors import InputError
from casfne.labelling import exports
from casfne.normals import FRAMES, angle_deg, convert, decode, encode, sphere

BALL, INSIDE = sphere(256)


def row(image_id: str = "a", face: int = 0, precise: bool = False) -> dict:
    png = {"bytes": images.encode_image(encode(BALL, INSIDE)), "path": None}
    mask = {"bytes": images.encode_image(INSIDE.astype(np.uint8) * 255), "path": None}
    packed = octahedral.encode(BALL, INSIDE)
    return {
        "corpus": "ball",
        "image_id": image_id,
        "face_index": face,
        "confidence_deg": 4.5,
        "normal": None if precise else png,
        "normal_octahedral": packed if precise else None,
        "mask": mask,
        "smiling": True,
    }


@pytest.fixture
def rows() -> pd.DataFrame:
    return pd.DataFrame([row("a"), row("b/c", 1, precise=True)])


def read16(path: Path) -> np.ndarray:
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[..., ::-1]


@pytest.mark.parametrize("frame", FRAMES)
def test_every_kind_holds_the_normals_in_the_frame_asked_for(rows: pd.DataFrame, frame: str, tmp_path: Path) -> None:
    truth = convert(BALL, "opengl", frame)
    bounds = {"png": (0.4, 0.6), "png16": (0.4, 0.006), "npy": (0.4, 0.004)}  # degrees, of png8 and octahedral rows
    for kind, limits in bounds.items():
        for path, limit in zip(exports.export(rows, tmp_path / kind, kind, frame), limits, strict=True):
            if kind == "npy":
                values = np.load(path)
                assert values.dtype == np.float32 and not values[~INSIDE].any()
            elif kind == "png16":
                levels = read16(path)
                assert levels.dtype == np.uint16 and (levels[~INSIDE] == 32768).all()
                values = levels / 32767.5 - 1
                values /= np.linalg.norm(values, axis=-1, keepdims=True)
            else:
                picture = images.read_image(path)
                assert (picture[~INSIDE] == 128).all()
                values = decode(picture)
            assert angle_deg(values, truth)[INSIDE].max() < limit, (kind, path)


def test_exr_holds_the_same_floats_as_npy(rows: pd.DataFrame, tmp_path: Path) -> None:
    array, exr = (exports.export(rows, tmp_path, kind)[1] for kind in ("npy", "exr"))
    with OpenEXR.File(str(exr)) as file:
        assert np.array_equal(file.channels()["RGB"].pixels, np.load(array))


@pytest.mark.parametrize("kind", ["npy", "hf"])
def test_pieces_come_out_as_the_whole(kind: str, rows: pd.DataFrame, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(exports, "_DATASET_ROWS", 3)
    many = pd.concat([rows.assign(image_id=rows["image_id"] + str(i)) for i in range(4)], ignore_index=True)
    pieces = [many[:1], many[:0], many[1:6], many[6:]]
    at_once, one_by_one = (exports.export(r, tmp_path / n, kind) for r, n in ((many, "a"), (iter(pieces), "b")))
    assert [path.read_bytes() for path in at_once] == [path.read_bytes() for path in one_by_one]
    assert [path.relative_to(tmp_path / "a") for path in at_once] == [
        path.relative_to(tmp_path / "b") for path in one_by_one
    ]
    assert len(at_once) == {"npy": 8, "hf": 3 + 1}[kind]


def test_names_are_safe_and_never_the_same(tmp_path: Path) -> None:
    names = ["a", "A b", "../up", "/root", "..", "", "a/b", "a%2Fb", "a\nb", "C:\\x", "é" * 100, "é" * 101, ".hidden"]
    rows = pd.DataFrame([row(name, face) for name in names for face in (0, 1)])
    written = exports.export(rows, tmp_path / "out", "npy")
    assert len(set(written)) == len(rows)
    assert {path.parent for path in written} == {tmp_path / "out" / "ball"}
    assert all(path.is_file() and path.name.isascii() and len(path.name) < 200 for path in written)
    assert not any(path.name.startswith(".") or set(path.name) & set('/\\:\n "') for path in written)
    assert written[0].name == "a_0.npy"
    long = [exports.file_name({"corpus": "c", "image_id": "x" * n, "face_index": 0}) for n in (300, 301)]
    assert long[0] != long[1]


def test_a_data_set_opens_in_datasets_with_its_pictures(rows: pd.DataFrame, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="the package datasets is not installed")
    exports.export(rows, tmp_path / "set", "hf")
    found = datasets.load_dataset(str(tmp_path / "set"), split="train", cache_dir=str(tmp_path / "cache"))
    assert found["image_id"][:] == ["a", "b/c"] and found["smiling"][:] == [True, True]
    assert "normal_octahedral" not in found.column_names
    for one in found:
        picture = np.asarray(one["normal"])
        assert angle_deg(decode(picture), BALL)[INSIDE].max() < 0.6
        assert (picture[~INSIDE] == 128).all()
        assert one["mask"].size == (256, 256)


def test_what_cannot_be_exported_is_said_and_leaves_nothing(rows: pd.DataFrame, tmp_path: Path) -> None:
    broken = pd.concat([rows, pd.DataFrame([row("none") | {"normal": None}])], ignore_index=True)
    cases = [
        (rows, "tiff", "opengl", "unknown kind 'tiff'"),
        (rows, "png", "left", "unknown frame 'left'"),
        (rows, "hf", "left", "unknown frame 'left'"),
        (rows.iloc[:0], "png", "opengl", "no rows"),
        (rows.drop(columns="corpus"), "png", "opengl", "'corpus'"),
        (broken, "hf", "opengl", "ball/none: has no normals"),
    ]
    for frame, kind, target, message in cases:
        with pytest.raises(InputError, match=message):
            exports.export(frame, tmp_path / "out", kind, target)
    assert not list(tmp_path.iterdir())
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("kept")
    with pytest.raises(InputError, match="holds files"):
        exports.export(rows, tmp_path / "full", "hf")
    with pytest.raises(InputError, match="is a file"):
        exports.export(rows, tmp_path / "full" / "mine.txt", "png")
    assert [path.name for path in tmp_path.rglob("*")] == ["full", "mine.txt"]


def test_a_data_set_that_breaks_off_is_not_there(rows: pd.DataFrame, tmp_path: Path, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(exports, "_write_rows", full)
    with pytest.raises(OSError, match="no space"):
        exports.export(rows, tmp_path / "set", "hf")
    assert not list(tmp_path.iterdir())
    assert table.normals(rows).shape == (2, 256, 256, 3)
