"""What a file of labels says of itself, and that it is true; the encodings of normals."""

import io
import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from casfne import images, normals, octahedral, schema
from casfne.corpora.record import Photo
from casfne.labelling import label as steps

UNIT = normals.normalise(np.random.default_rng(0).normal(size=(500, 400, 3)))


def stated(encoding: str) -> dict[str, float]:
    return json.loads(schema.file_metadata(encoding)["encoding_error_deg"])


@pytest.mark.parametrize("encoding", schema.ENCODINGS)
def test_the_stated_error_of_an_encoding_is_the_measured_one(encoding: str) -> None:
    codec = normals if encoding == "png8" else octahedral
    back = codec.decode(codec.encode(UNIT))
    error = normals.angle_deg(back, UNIT)
    assert error.mean() == pytest.approx(stated(encoding)["mean"], rel=0.05)
    assert 0.9 * stated(encoding)["max"] <= error.max() <= stated(encoding)["max"]


def test_octahedral_codes_keep_axes_edges_and_both_sides() -> None:
    axes = np.concatenate([np.eye(3), -np.eye(3)]).astype(np.float32)
    edges = normals.normalise([[1, 1, 0], [-1, 1, 0], [1, -1, 0], [-1, -1, 0], [1, 0, -1e-7], [-1e-7, -1e-7, -1]])
    for vectors in (axes, edges):
        assert normals.angle_deg(octahedral.normals_of(octahedral.codes_of(vectors)), vectors).max() < 0.004
    np.testing.assert_array_equal(octahedral.normals_of(octahedral.codes_of(axes)), axes)


def test_octahedral_normals_are_zero_outside_the_mask_and_small() -> None:
    ball, inside = normals.sphere(256)
    data = octahedral.encode(ball, inside)
    back = octahedral.decode(data)
    assert back.dtype == np.float32 and back.shape == (256, 256, 3)
    assert not back[~inside].any()
    np.testing.assert_allclose(np.linalg.norm(back[inside], axis=-1), 1, atol=1e-6)
    assert len(data) < 256 * 256 * 2
    assert data == octahedral.encode(ball, inside)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_packing_loses_no_code(height: int, width: int, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, 65536, (height, width, 2), np.uint16)
    np.testing.assert_array_equal(octahedral.unpack(octahedral.pack(codes)), codes)


@pytest.mark.parametrize("change", ["empty", "other", "cut", "broken", "too large", "no pixels"])
def test_bytes_that_are_no_octahedral_normals_are_refused(change: str) -> None:
    data = octahedral.pack(np.zeros((20, 30, 2), np.uint16))
    bad = {
        "empty": b"",
        "other": images.encode_image(np.zeros((9, 9), np.uint8)),
        "cut": data[:-9],
        "broken": data[:9] + bytes(len(data) - 9),
        "too large": data[:4] + b"\xff\xff\xff\xff" + data[8:],
        "no pixels": data[:4] + bytes(4) + data[8:],
    }[change]
    with pytest.raises(ValueError, match="octahedral"):
        octahedral.decode(bad)


@pytest.mark.parametrize("encoding", schema.ENCODINGS)
def test_a_file_says_how_its_normals_are_stored(encoding: str) -> None:
    file = io.BytesIO()
    schema.write(file, [{"image_id": "a", "normal_octahedral": b"1"}], {"fingerprint": "f"}, encoding)
    said = {k.decode(): v.decode() for k, v in pq.read_schema(file).metadata.items()}
    assert said["frame"] == "opengl" and "y up" in said["axes"]
    assert said["encoding_name"] == encoding and said["encoding_column"] in schema.COLUMNS
    assert said["encoding"] == schema.ENCODINGS[encoding].description
    assert said["fingerprint"] == "f"


def test_every_column_is_written_and_read_back() -> None:
    values = {pa.string(): "text", pa.int32(): 3, pa.float32(): 0.5, pa.bool_(): True, pa.binary(): b"\0\1"}
    picture = {"bytes": b"png", "path": None}
    row = {name: values.get(kind) for name, (kind, _) in schema.COLUMNS.items()}
    row |= dict.fromkeys(("normal", "mask", "relit"), picture)
    row |= {"stages": [picture, picture], "crop_to_image": [1.0] * 6}
    assert all(value is not None for value in row.values())
    file = io.BytesIO()
    schema.write(file, [row, {}], {})
    first, empty = pq.read_table(file).to_pylist()
    assert first == {name: value for name, value in row.items() if name != "corpus"}
    assert not any(value is not None for value in empty.values())


def test_pictures_are_stored_plain_and_numbers_with_statistics() -> None:
    file = io.BytesIO()
    schema.write(file, [{"stages": [{"bytes": b"x", "path": None}], "normal_octahedral": b"y", "dark": 0.5}], {})
    group = pq.ParquetFile(file).metadata.row_group(0)
    columns = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    packed = {name for name, column in columns.items() if column.compression == "UNCOMPRESSED"}
    octets = {"normal.bytes", "mask.bytes", "relit.bytes", "stages.list.element.bytes", "normal_octahedral"}
    assert packed == octets
    assert not any(columns[name].is_stats_set for name in octets)
    assert columns["dark"].is_stats_set and columns["extreme_light"].is_stats_set


def test_reasons_agree_with_statuses_and_are_said_in_words() -> None:
    assert {reason.status for reason in schema.REASONS.values()} == set(schema.STATUSES) - {"ok"}
    assert set(schema.CAN_PASS) == {"io_error", "out_of_memory", "worker_died"}
    for code, reason in schema.REASONS.items():
        assert re.fullmatch("[a-z_]+", code) and reason.meaning
        assert code in schema.COLUMNS["reason_code"][1]


def test_the_readme_lists_the_columns_of_the_code() -> None:
    text = (ROOT / "README.md").read_text()
    listed = re.search(r"Columns of the labels[^\n]*\n((?:`\w+`[,. \n]*)+)", text)
    assert listed and re.findall(r"`(\w+)`", listed[1]) == list(schema.COLUMNS)


def test_the_dictionary_says_every_column_in_one_line() -> None:
    rows = schema.dictionary()
    assert [name for name, _, _ in rows] == list(schema.COLUMNS)
    assert {kind for _, kind, _ in rows} == {
        *("string", "int32", "float32", "bool", "binary", "picture", "list of picture", "list of float64")
    }
    assert all(meaning and "\n" not in meaning for _, _, meaning in rows)


def test_a_row_of_labelling_has_exactly_the_columns() -> None:
    entry = steps.failed(Photo("c", "i", "p"), "why", "io_error")
    row = steps.to_row(steps.Labelled(entry), steps.Identity("m", "0" * 64, "1", 2, "fp32"))
    assert list(row) == list(schema.COLUMNS)
    assert (row["status"], row["reason_code"], row["reason"]) == ("unreadable", "io_error", "why")
