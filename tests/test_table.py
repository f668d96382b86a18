"""The table of labels: schema, metadata, and queries from pandas."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from casfne import files, images, label_files, normals, octahedral, schema, table
from casfne.errors import InputError
from casfne.normals import sphere


def rows(corpus: str, count: int) -> list[dict]:
    normal, mask = sphere(256)
    png = images.encode_image(normals.encode(normal, mask))
    grey = images.encode_image(mask.astype(np.uint8) * 255)
    found = [
        {
            "corpus": corpus,
            "image_id": f"{i:03d}",
            "path": f"{i:03d}.jpg",
            "face_index": 0,
            "status": "ok",
            "reason": "",
            "crop_to_image": [1.0, 0, 0, 0, 1, 0],
            "normal": {"bytes": png, "path": None},
            "mask": {"bytes": grey, "path": None},
            "confidence_deg": float(i),
        }
        for i in range(count - 1)
    ]
    none = {"corpus": corpus, "image_id": "none", "path": "none.jpg", "face_index": -1, "status": "no_face"}
    return [*found, none | {"reason": "the detector found no face"}]


@pytest.fixture(scope="module")
def labels(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("labels")
    for corpus, count in (("celeba", 150), ("ffhq", 5)):
        with files.atomic_open(out / f"corpus={corpus}" / "part-00000.parquet") as file:
            schema.write(file, rows(corpus, count), {"fingerprint": "abc"})
    (out / "_summary.json").write_text("{}")
    return out


def test_the_file_says_what_its_pictures_mean(labels: Path) -> None:
    said = schema.metadata(labels / "corpus=ffhq" / "part-00000.parquet")
    assert said["frame"] == "opengl"
    assert said["fingerprint"] == "abc"
    features = json.loads(said["huggingface"])["info"]["features"]
    assert features["normal"] == features["mask"] == {"_type": "Image"}
    assert features["crop_to_image"] == {"_type": "Sequence", "feature": {"_type": "Value", "dtype": "float64"}}
    assert list(features) == [name for name in schema.COLUMNS if name != "corpus"]
    written = pq.read_schema(labels / "corpus=ffhq" / "part-00000.parquet")
    assert all(written.field(name).metadata[b"description"] for name in features)


def test_row_groups_are_small_and_pictures_are_stored_plain(labels: Path) -> None:
    file = pq.ParquetFile(labels / "corpus=celeba" / "part-00000.parquet").metadata
    assert [file.row_group(i).num_rows for i in range(file.num_row_groups)] == [64, 64, 22]
    group = file.row_group(0)
    columns = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    picture, number = columns["normal.bytes"], columns["confidence_deg"]
    assert picture.compression == "UNCOMPRESSED"
    assert not picture.is_stats_set
    assert "RLE_DICTIONARY" not in picture.encodings
    assert (number.compression, number.statistics.min, number.statistics.max) == ("ZSTD", 0.0, 63.0)
    assert number.has_column_index and number.has_offset_index


def test_the_stated_encoding_error_is_the_measured_one() -> None:
    n = normals.normalise(np.random.default_rng(0).normal(size=(200_000, 3)))
    error = normals.angle_deg(normals.decode(normals.encode(n)), n)
    stated = json.loads(schema.METADATA["encoding_error_deg"])
    assert error.mean() == pytest.approx(stated["mean"], abs=0.01)
    assert error.max() <= stated["max"]


def test_reading_leaves_pictures_out_and_filters(labels: Path) -> None:
    frame = table.read(labels)
    assert len(frame) == 155
    assert not set(schema.PICTURES) & set(frame)
    assert set(frame["corpus"]) == {"celeba", "ffhq"}
    sure = table.read(labels, ["image_id"], [("confidence_deg", "<", 2), ("corpus", "==", "ffhq")])
    assert list(sure["image_id"]) == ["000", "001"]
    assert len(table.read(labels / "corpus=ffhq")) == 5
    assert len(table.read(labels / "corpus=ffhq" / "part-00000.parquet")) == 5
    plain = pd.read_parquet(labels)  # pandas alone
    assert plain["corpus"].value_counts().to_dict() == {"celeba": 150, "ffhq": 5}


def test_normals_and_mask_come_back(labels: Path) -> None:
    row = table.read(labels, ["normal", "mask"], [("image_id", "==", "003")]).iloc[0]
    expected, inside = sphere(256)
    for source in (row, row["normal"], row["normal"]["bytes"]):
        got = table.normals(source)
        assert got.dtype == np.float32
        assert normals.angle_deg(got, expected)[inside].max() < 0.4
        assert not got[~inside].any()
    np.testing.assert_array_equal(table.mask(row), inside)


def test_normals_of_many_rows_come_in_any_frame_and_encoding(labels: Path) -> None:
    ball, inside = sphere(256)
    frame = table.read(labels, ["normal", "mask"], [("confidence_deg", "<", 2), ("corpus", "==", "ffhq")])
    packed = frame.assign(normal=None, normal_octahedral=octahedral.encode(ball, inside))
    for rows, limit in ((frame, 0.4), (packed, 0.004), (pd.concat([frame, packed], ignore_index=True), 0.4)):
        for name in normals.FRAMES:
            got = table.normals(rows, name)
            assert got.shape == (len(rows), 256, 256, 3) and got.dtype == np.float32
            expected = normals.convert(ball, "opengl", name)
            assert normals.angle_deg(got, expected)[:, inside].max() < limit, name
            assert not got[:, ~inside].any()
            np.testing.assert_array_equal(table.normals(rows.iloc[-1], name), got[-1])
        assert table.masks(rows).shape == (len(rows), 256, 256) and (table.masks(rows) == inside).all()
    assert table.normals(frame.iloc[:0]).shape == (0, 256, 256, 3)
    assert table.masks(frame.iloc[:0]).shape == (0, 256, 256)


def test_the_frames_are_those_of_the_library() -> None:
    png = images.encode_image(normals.encode(np.full((1, 1, 3), (0.48, 0.6, 0.64), np.float32)))
    ours = table.normals(png)
    for name in normals.FRAMES:
        np.testing.assert_allclose(table.normals(png, name), normals.convert(ours, "opengl", name), atol=1e-7)


def test_what_is_not_there_is_said(labels: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no label files"):
        table.read(tmp_path)
    with pytest.raises(InputError, match="no label files"):
        table.read(tmp_path / "nowhere")
    with pytest.raises(InputError, match="'colour'"):
        table.read(labels, ["colour"])
    with pytest.raises(InputError, match="'hue'"):
        table.read(labels, ["image_id"], [[("confidence_deg", "<", 2)], [("hue", ">", 2)]])
    with pytest.raises(InputError, match="unknown frame 'left'"):
        table.normals(b"", "left")
    none = table.read(labels, ["normal"], [("status", "==", "no_face")]).iloc[0]
    with pytest.raises(InputError, match="no picture of 'normal'"):
        table.normals(none)
    for noise in (b"noise", b""):
        with pytest.raises(InputError, match="no picture"):
            table.mask(noise)
    with pytest.raises(InputError, match="octahedral"):
        table.normals({"normal_octahedral": b"noise"})
    broken = tmp_path / "corpus=x" / "part-00000.parquet"
    broken.parent.mkdir()
    broken.write_bytes(b"PAR1 and no more")
    with pytest.raises(InputError, match=f"^{tmp_path}: cannot be read"):
        table.read(tmp_path)


def test_filters_of_every_form_that_pandas_takes_are_taken_and_others_named(labels: Path) -> None:
    forms = ([("corpus", "==", "ffhq")], [["corpus", "==", "ffhq"]], [[("corpus", "==", "ffhq")]])
    for filters in (*forms, pc.field("corpus") == "ffhq"):
        assert len(table.read(labels, filters=filters)) == 5
        assert len(pd.concat(table.pieces(labels, ["image_id"], filters))) == 5
    for wrong in (("corpus", "==", "ffhq"), ["corpus"], [("corpus", "is", "ffhq")], [("corpus", "==")]):
        with pytest.raises(InputError, match=r"expected \[\(column, operator, value"):
            table.read(labels, filters=wrong)


def test_a_shard_that_left_its_corpus_is_refused(labels: Path, tmp_path: Path) -> None:
    shard = labels / "corpus=ffhq" / "part-00000.parquet"
    assert set(table.read(shard)["corpus"]) == {"ffhq"}
    for path in (tmp_path / "shard.parquet", tmp_path / "ffhq" / "part-00000.parquet"):
        path.parent.mkdir(exist_ok=True)
        shutil.copy(shard, path)
    for place in (tmp_path / "shard.parquet", tmp_path / "ffhq"):
        with pytest.raises(InputError, match=r"labels of what corpus\? Expected them in a folder corpus=<name>"):
            table.read(place)


# --- the index ---


@pytest.fixture
def indexed(tmp_path: Path) -> Path:
    """Three shards of two corpora, with their index."""
    made = rows("celeba", 9)
    shards = {"celeba": [made[:5], made[5:]], "ffhq": [rows("ffhq", 4)]}
    for corpus, pieces in shards.items():
        for number, piece in enumerate(pieces):
            with files.atomic_open(tmp_path / f"corpus={corpus}" / f"part-{number:05d}.parquet") as file:
                schema.write(file, piece, {})
    table.index(tmp_path)
    return tmp_path


QUESTIONS = [
    (None, None),
    (["image_id", "corpus"], None),
    (["confidence_deg"], [("confidence_deg", ">", 2), ("status", "==", "ok")]),
    (["image_id"], [[("image_id", "==", "006")], [("corpus", "==", "ffhq")]]),
    (["image_id", "mask"], [("image_id", "==", "006")]),
    (["normal", "corpus"], [("corpus", "==", "ffhq"), ("confidence_deg", "<", 2)]),
    (["normal"], [("image_id", "==", "nobody")]),
    (["mask", "image_id"], None),
]


@pytest.mark.parametrize(("columns", "filters"), QUESTIONS)
def test_answers_are_the_same_with_the_index_without_and_in_pieces(indexed: Path, columns, filters) -> None:
    with_index = table.read(indexed, columns, filters)
    pieces = list(table.pieces(indexed, columns, filters))
    assert len(pieces) == len(table.parts(indexed))
    pd.testing.assert_frame_equal(with_index, pd.concat(pieces, ignore_index=True), check_dtype=False)
    (indexed / label_files.INDEX).unlink()
    pd.testing.assert_frame_equal(with_index, table.read(indexed, columns, filters))


def test_numbers_come_from_the_index_alone_and_a_picture_from_its_shard(indexed: Path, monkeypatch) -> None:
    opened: list[list[str]] = []
    dataset = label_files.Labels.dataset

    def watched(labels, paths):
        opened.append([Path(path).relative_to(indexed).as_posix() for path in paths])
        return dataset(labels, paths)

    monkeypatch.setattr(label_files.Labels, "dataset", watched)
    assert len(table.read(indexed, ["confidence_deg"], [("status", "==", "ok")])) == 11
    assert opened == []
    found = table.read(indexed, ["normal"], [("image_id", "==", "006"), ("corpus", "==", "celeba")])
    assert len(found) == 1 and opened == [["corpus=celeba/part-00001.parquet"]]


def test_an_index_of_other_shards_is_never_believed(indexed: Path) -> None:
    shard = indexed / "corpus=ffhq" / "part-00000.parquet"
    with files.atomic_open(shard) as file:  # of the same size: one number differs
        schema.write(file, [row | {"confidence_deg": 77.0} for row in rows("ffhq", 4)], {})
    assert (table.read(indexed, filters=[("corpus", "==", "ffhq")])["confidence_deg"] == 77).all()
    table.index(indexed)
    assert (table.read(indexed, filters=[("corpus", "==", "ffhq")])["confidence_deg"] == 77).all()
    shard.unlink()
    assert set(table.read(indexed)["corpus"]) == {"celeba"}
    with files.atomic_open(indexed / "corpus=new" / "part-00000.parquet") as file:
        schema.write(file, rows("new", 2), {})
    assert set(table.read(indexed)["corpus"]) == {"celeba", "new"}


def test_an_index_that_was_cut_off_is_made_again(indexed: Path) -> None:
    path, before = indexed / label_files.INDEX, table.read(indexed)
    whole = path.read_bytes()
    for damaged in (whole[:-20], b"", b"no Parquet"):
        path.write_bytes(damaged)
        pd.testing.assert_frame_equal(table.read(indexed), before)
        table.index(indexed)
        assert path.read_bytes() == whole


def test_an_index_that_cannot_be_made_leaves_the_old_one(indexed: Path) -> None:
    before = (indexed / label_files.INDEX).read_bytes()
    (indexed / "corpus=celeba" / "part-00007.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(InputError, match=f"^{indexed}: cannot be indexed"):
        table.index(indexed)
    assert (indexed / label_files.INDEX).read_bytes() == before
    assert {p.name for p in indexed.iterdir()} == {"corpus=celeba", "corpus=ffhq", label_files.INDEX}
    with pytest.raises(InputError, match="no folder of label files"):
        table.index(indexed / "corpus=ffhq" / "part-00000.parquet")


def test_pandas_alone_sees_neither_index_nor_attributes(indexed: Path) -> None:
    write_attributes(indexed)
    assert len(pd.read_parquet(indexed)) == 13
    assert len(table.parts(indexed)) == 3


# --- attributes ---


def write_attributes(out: Path) -> None:
    said = {"celeba": {"image_id": ["000", "001"], "Male": [True, False]}, "ffhq": {"image_id": ["002"], "age": [31]}}
    for corpus, columns in said.items():
        with files.atomic_open(out / "_attributes" / f"corpus={corpus}.parquet") as file:
            pd.DataFrame(columns).to_parquet(file)


def test_attributes_join_by_corpus_and_image(indexed: Path) -> None:
    assert table.attributes(indexed).empty
    plain = table.read(indexed, ["corpus", "image_id", "face_index"])
    assert len(table.joined(plain, indexed)) == len(plain)
    write_attributes(indexed)
    assert len(table.attributes(indexed)) == 3
    frame = table.joined(plain, indexed)
    pd.testing.assert_frame_equal(frame[list(plain)], plain)
    said = frame.set_index(["corpus", "image_id"])
    assert said.loc[("celeba", "000"), "Male"] is True and said.loc[("celeba", "001"), "Male"] is False
    assert said.loc[("ffhq", "002"), "age"] == 31
    assert frame["Male"].notna().sum() == 2 and frame["age"].notna().sum() == 1
    with pytest.raises(InputError, match="without corpus"):
        table.joined(plain[["image_id"]], indexed)


# --- picking rows ---


def test_worst_and_best_rank_all_metrics_and_uncertainty_is_the_expected_error() -> None:
    frame = pd.DataFrame(
        {
            "image_id": ["good", "bad", "middle", "none"],
            "roughness_deg": [1.0, 9, 5, None],
            "sharpness": [90.0, 10, 50, None],
            "confidence_deg": [3.0, 8, 11, None],
        }
    )
    assert list(table.worst(frame, 2)["image_id"]) == ["bad", "middle"]
    assert list(table.best(frame, 2)["image_id"]) == ["good", "middle"]
    assert list(table.worst(frame, 9)["image_id"]) == ["bad", "middle", "good"]
    assert list(table.most_uncertain(frame, 2)["image_id"]) == ["middle", "bad"]
    uncalibrated = frame.assign(confidence_deg=np.nan, last_move_deg=[4.0, 1, 2, np.nan])
    assert list(table.most_uncertain(uncalibrated, 1)["image_id"]) == ["good"]
    for pick in (table.worst, table.best, table.most_uncertain):
        with pytest.raises(InputError, match="read"):
            pick(frame[["image_id"]])


def test_the_summary_counts_images_and_rows_by_status(labels: Path) -> None:
    counted = table.summary(table.read(labels))
    assert list(counted.index) == ["celeba", "ffhq"]
    assert counted.loc["ffhq", ["images", "ok", "no_face", "error"]].tolist() == [5, 4, 1, 0]
    assert counted.loc["ffhq", "confidence_deg_median"] == 1.5
