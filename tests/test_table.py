"""The table of labels: schema, metadata, and queries from pandas."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from casfne import files, images, normals, schema, table
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


def test_what_is_not_there_is_said(labels: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no label files"):
        table.read(tmp_path)
    with pytest.raises(ValueError, match="'colour'"):
        table.read(labels, ["colour"])
    none = table.read(labels, ["normal"], [("status", "==", "no_face")]).iloc[0]
    with pytest.raises(ValueError, match="no picture of 'normal'"):
        table.normals(none)
    with pytest.raises(ValueError, match="no picture"):
        table.mask(b"noise")


def test_the_summary_counts_images_and_rows_by_status(labels: Path) -> None:
    counted = table.summary(table.read(labels))
    assert list(counted.index) == ["celeba", "ffhq"]
    assert counted.loc["ffhq", ["images", "ok", "no_face", "error"]].tolist() == [5, 4, 1, 0]
    assert counted.loc["ffhq", "confidence_deg_median"] == 1.5
