"""The authors' prepared copies of Photoface, in both layouts, as samples."""

import shutil

import cv2
import numpy as np
import pytest

from casfne.corpora.prepared import copy_fingerprint, find_prepared, prepare_copy
from casfne.corpora.samples import read_record, read_sample
from casfne.errors import InputError
from casfne.images import write_image
from casfne.normals import angle_deg, encode, normalise, sphere

SESSION = "2008-03-03_09-06-37"


def stored(n):
    """Normals as the copies hold them: (down, right, out)."""
    return np.stack([-n[..., 1], n[..., 0], n[..., 2]], -1)


def as_pictures(folder, size=256, faces=("im0_c.png", "im1_c.png")):
    """A session with sn_c.png and mask_c.png; its normals and mask."""
    n, mask = sphere(size)
    for i, name in enumerate(faces):
        write_image(folder / name, np.full((size, size, 3), 50 * (i + 1), np.uint8))
    write_image(folder / "sn_c.png", encode(stored(n), mask))
    write_image(folder / "mask_c.png", (mask * 255).astype(np.uint8))
    return n, mask


def as_arrays(folder, *stems, size=256, normals=None):
    """Sessions of crops with `_sn.npy` and `_mask.png`; their normals and mask."""
    n, mask = sphere(size)
    for stem in stems:
        write_image(folder / f"{stem}_crop.jpg", np.full((size, size, 3), 100, np.uint8))
        np.save(folder / f"{stem}_sn.npy", (stored(n) if normals is None else normals).astype(np.float32))
        write_image(folder / f"{stem}_mask.png", (mask * 255).astype(np.uint8))
    return n, mask


def only(root):
    found = find_prepared(root)
    assert len(found.copies) == 1 and not found.rejected
    return found.copies[0]


@pytest.mark.parametrize("make, error_deg", [(as_pictures, 0.5), (lambda f: as_arrays(f, "im0"), 0.06)])
def test_normals_come_out_in_our_frame(tmp_path, make, error_deg):
    n, mask = make(tmp_path / "in" / "0001" / SESSION)
    rows = prepare_copy(only(tmp_path / "in"), tmp_path)
    sample = read_sample(tmp_path, rows[0]["archive"], 0)
    assert angle_deg(sample.normal, n)[sample.mask].max() < error_deg
    assert not sample.mask[~mask].any() and sample.mask.sum() > 0.95 * mask.sum()
    assert (sample.trust == sample.mask).all()
    assert rows[0]["frame_stored"] == "sfs" and rows[0]["mean_trust"] == 1 and rows[0]["subject"] == "0001"


def test_every_face_of_a_session_is_a_sample(tmp_path):
    as_pictures(tmp_path / "in" / "0001" / SESSION)
    rows = prepare_copy(only(tmp_path / "in"), tmp_path)
    assert [row["sample_id"] for row in rows] == [f"0001_{SESSION}_im{i}_c" for i in range(2)]
    for row in rows:
        sample = read_sample(tmp_path, row["archive"], row["light"])
        assert (sample.image == 50 * (row["light"] + 1)).all()
    assert read_record(tmp_path / rows[0]["archive"]).rows == rows


def test_sixteen_bits_of_normals_are_read_as_such(tmp_path):
    folder = tmp_path / "in" / "0001" / SESSION
    n, mask = as_pictures(folder)
    deep = np.rint((stored(n) * mask[..., None] + 1) * 32767.5).astype(np.uint16)
    cv2.imwrite(str(folder / "sn_c.png"), deep[..., ::-1])
    prepare_copy(only(tmp_path / "in"), tmp_path)
    sample = read_sample(tmp_path, f"0001_{SESSION}.npz", 0)
    assert angle_deg(sample.normal, n)[sample.mask].max() < 0.06


def test_other_sizes_are_brought_to_the_working_size(tmp_path):
    n, _ = sphere(256)
    as_arrays(tmp_path / "in" / "0001" / SESSION, "im0", size=400)
    prepare_copy(only(tmp_path / "in"), tmp_path)
    sample = read_sample(tmp_path, f"0001_{SESSION}_im0.npz", 0)
    inner = sample.mask & (n[..., 2] > 0.3)
    assert sample.image.shape == (256, 256, 3) and angle_deg(sample.normal, n)[inner].max() < 0.5


@pytest.mark.parametrize(
    "where, stems, people",
    [
        (f"0001/{SESSION}", ["im0", "im1"], [("0001", f"{SESSION}_im0"), ("0001", f"{SESSION}_im1")]),
        ("faces", [f"0007_{SESSION}", f"0008_{SESSION}"], [("0007", SESSION), ("0008", SESSION)]),
        (f"adam/{SESSION}", ["a"], [("adam", f"{SESSION}_a")]),
        ("adam", ["a", "b"], [("adam", "a"), ("adam", "b")]),
        ("Photoface/0002/x/y", ["a"], [("0002", "x_y_a")]),
        ("0003", ["a"], [("0003", "a")]),
    ],
)
def test_who_is_seen_is_told_by_the_path(tmp_path, where, stems, people):
    as_arrays(tmp_path / where, *stems, size=16)
    found = find_prepared(tmp_path)
    assert [(copy.subject, copy.session) for copy in found.copies] == people and not found.rejected
    assert all(len(copy.faces) == 1 for copy in found.copies)


def test_faces_may_share_the_one_normal_map_of_their_folder(tmp_path):
    folder = tmp_path / "adam" / SESSION
    as_arrays(folder, "im0", "im1", size=16)
    (folder / "im0_sn.npy").rename(folder / "session_sn.npy")
    for name in ("im1_sn.npy", "im1_mask.png"):
        (folder / name).unlink()
    copy = only(tmp_path)
    assert (copy.subject, copy.session) == ("adam", SESSION)
    assert [path.name for path in copy.faces] == ["im0_crop.jpg", "im1_crop.jpg"]
    assert copy.normals.name == "session_sn.npy" and copy.mask.name == "im0_mask.png"


def test_what_lacks_a_part_is_named(tmp_path):
    as_pictures(tmp_path / "0001" / "a", 16, faces=())
    as_pictures(tmp_path / "0001" / "b", 16)
    (tmp_path / "0001" / "b" / "mask_c.png").unlink()
    as_pictures(tmp_path / "0001" / "c", 16)
    (tmp_path / "0001" / "c" / "sn_c.png").unlink()
    as_arrays(tmp_path / "0001" / "d", "x", "y", size=16)
    (tmp_path / "0001" / "d" / "x_sn.npy").unlink()
    as_arrays(tmp_path, "me", size=16)
    shutil.copytree(tmp_path / "0001" / "d", tmp_path / "0001" / ".hidden")
    found = find_prepared(tmp_path)
    reasons = {str(path.relative_to(tmp_path)): reason for path, reason in found.rejected.items()}
    assert reasons == {
        "0001/a": "prepared session, no face",
        "0001/b": "prepared session, no mask_c.png",
        "0001/c": "prepared session, no sn_c.png",
        "0001/d/x": "prepared session, no x_sn.npy",
        "me": "prepared session of nobody: no four digits in its path, no folder above its own",
    }
    assert [copy.session for copy in found.copies] == ["d_y"]


def _grey(folder):
    write_image(folder / "sn_c.png", np.zeros((256, 256), np.uint8))


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda f: (f / "im0_c.png").write_bytes(b"no"), r"im0_c\.png: not an image"),
        (
            lambda f: write_image(f / "im0_c.png", np.zeros((9, 9, 3), np.uint8)),
            r"9x9 pixels, but mask_c\.png has 256x256",
        ),
        (lambda f: write_image(f / "sn_c.png", np.zeros((9, 9, 3), np.uint8)), r"sn_c\.png: 9x9 pixels"),
        (_grey, r"sn_c\.png: a grey picture"),
        (lambda f: write_image(f / "mask_c.png", np.zeros((256, 256), np.uint8)), r"mask_c\.png: no pixel of a face"),
        (
            lambda f: write_image(f / "sn_c.png", encode(sphere(256)[0])),
            r"sn_c\.png: normals of a face in frame opengl, expected sfs",
        ),
    ],
)
def test_pictures_that_do_not_fit_are_refused(tmp_path, spoil, message):
    folder = tmp_path / "in" / "0001" / SESSION
    as_pictures(folder)
    spoil(folder)
    with pytest.raises(InputError, match=message):
        prepare_copy(only(tmp_path / "in"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "content, message",
    [
        (np.zeros((256, 256), np.float32), r"expected floats \[H, W, 3\], got float32 \[256, 256\]"),
        (np.zeros((256, 256, 3), np.uint8), "expected floats"),
        (np.full((256, 256, 3), 99.0), "values up to 99, expected unit normals"),
        (np.array([{"a": 1}], object), "cannot be read"),  # pickled: never opened
        (b"x", "cannot be read"),
        (b"", "cannot be read"),
    ],
)
def test_arrays_that_are_no_normals_are_refused(tmp_path, content, message):
    folder = tmp_path / "in" / "0001" / SESSION
    as_arrays(folder, "im0")
    if isinstance(content, bytes):
        (folder / "im0_sn.npy").write_bytes(content)
    else:
        np.save(folder / "im0_sn.npy", content, allow_pickle=True)
    with pytest.raises(InputError, match=rf"im0_sn\.npy: .*{message}"):
        prepare_copy(only(tmp_path / "in"), tmp_path / "out")


def test_normals_that_are_not_known_are_off_the_mask(tmp_path):
    n, _ = sphere(256)
    holed = stored(n)
    holed[100:120, 100:120] = np.nan
    holed[150:160, 150:160] = 0
    as_arrays(tmp_path / "in" / "0001" / SESSION, "im0", normals=holed)
    prepare_copy(only(tmp_path / "in"), tmp_path)
    sample = read_sample(tmp_path, f"0001_{SESSION}_im0.npz", 0)
    assert not sample.mask[100:120, 100:120].any() and not sample.mask[150:160, 150:160].any()
    assert np.allclose(np.linalg.norm(sample.normal[sample.mask], axis=-1), 1, atol=1e-5)


def test_grey_in_a_picture_of_normals_is_no_normal(tmp_path):
    folder = tmp_path / "in" / "0001" / SESSION
    n, mask = as_pictures(folder)
    mask[100:120, 100:120] = False
    write_image(folder / "sn_c.png", encode(stored(n), mask))  # but its mask says that there is one
    prepare_copy(only(tmp_path / "in"), tmp_path)
    assert not read_sample(tmp_path, f"0001_{SESSION}.npz", 0).mask[100:120, 100:120].any()


def test_attributes_beside_a_copy_come_along(tmp_path):
    folder = tmp_path / "in" / "0001" / SESSION
    as_pictures(folder)
    before = copy_fingerprint(only(tmp_path / "in"))
    (folder / "metadataII.txt").write_text("male,yes,beard,1,ok,,positive\n")
    rows = prepare_copy(only(tmp_path / "in"), tmp_path)
    assert [(row["spectacles"], row["occlusion"]) for row in rows] == [("yes", None)] * 2
    assert copy_fingerprint(only(tmp_path / "in")) != before


def test_the_fingerprint_follows_content_not_place(tmp_path):
    as_pictures(tmp_path / "a" / "0001" / SESSION, 16)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    a, b = only(tmp_path / "a"), only(tmp_path / "b")
    assert copy_fingerprint(a) == copy_fingerprint(b)
    write_image(b.faces[1], np.zeros((16, 16, 3), np.uint8))
    assert copy_fingerprint(a) != copy_fingerprint(b)


def test_unit_length_is_not_asked_of_stored_values(tmp_path):
    n, _ = sphere(256)
    as_arrays(tmp_path / "in" / "0001" / SESSION, "im0", normals=stored(n) * 0.7)
    prepare_copy(only(tmp_path / "in"), tmp_path)
    sample = read_sample(tmp_path, f"0001_{SESSION}_im0.npz", 0)
    assert angle_deg(sample.normal, normalise(n))[sample.mask].max() < 0.1
