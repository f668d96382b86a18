"""Photoface on disk: lights in every form, sessions found or named, attributes, points, and the owner's results."""

import re

import numpy as np
import pytest

from casfne.errors import InputError
from casfne.images import read_image, to_uint8, write_image
from casfne.normals import angle_deg, sphere
from casfne.stereo.authors import compare, compare_albedo, read_albedo, read_normals
from casfne.stereo.captures import open_capture, with_lamps_at
from casfne.stereo.lights import read_light_source
from casfne.stereo.photoface import find_sessions, five_points, read_attributes, read_photoface

MATRIX = "% lights\nLightSource = [35 45; 35 135; 30 225; 30 315];\n"
POINTS = np.array(
    [
        [60, 70],
        [80, 70],
        [96, 40],
        [112, 70],
        [132, 70],
        [85, 100],
        [96, 100],
        [107, 100],
        [80, 125],
        [112, 125],
        [96, 150],
    ]
)
ANGLES = [(35, 45), (35, 135), (30, 225), (30, 315)]
NAME = "2020-01-02_03-04-05"


def write_session(folder, lights, size=192):
    """A Photoface session of a matte sphere; gives its normals and mask."""
    n, mask = sphere(size)
    folder.mkdir(parents=True)
    for i, image in enumerate(np.maximum(0.8 * np.moveaxis(n @ lights.T, -1, 0), 0)):
        write_image(folder / f"im{i}.bmp", np.repeat(to_uint8(image * mask)[..., None], 3, -1))
    (folder / "LightSource.m").write_text(MATRIX)
    (folder / "metadata.txt").write_text("\n".join(f"{x} {y}" for x, y in POINTS * size / 192))
    (folder / "metadataII.txt").write_text("female,no,none,1,ok,,blankstare\n")
    return n, mask


@pytest.fixture
def session(tmp_path, four_lights):
    folder = tmp_path / "0001" / NAME
    write_session(folder, four_lights)
    return folder


# --- lights ---


@pytest.mark.parametrize(
    "text",
    [
        MATRIX,
        "L=[0.610865 0.785398; 0.610865 2.356194; 0.523599 3.926991; 0.523599 5.497787]",
        "".join(f"zenith{i + 1} = {z};\nazimuth{i + 1} = {a};\n" for i, (z, a) in enumerate(ANGLES)),
        "".join(f"zenith({i + 1}) = {z}; azimuth({i + 1}) = {a};\n" for i, (z, a) in enumerate(ANGLES)),
        "".join(f"Azimuth{{{i}}}={a}, Zenith{{{i}}}={z}, % {i}\n" for i, (z, a) in enumerate(ANGLES)),
        "".join(f"Light({i + 1},:) = [{z}, {a}];\n" for i, (z, a) in enumerate(ANGLES)),
        "".join(f"light{i + 1} = [{z} {a}]*pi/180;\n" for i, (z, a) in enumerate(ANGLES)),
        "[35, 45\r\n35, 135\r\n30, 225\r\n30, 315]\r\n",
        "A = [35 35 30 30; 45 135 225 315]';",
        "zenith = [35 35 30 30];\nazimuth = [45; 135; 225; 315];",
        "%{\nold = [1 2; 3 4; 5 6; 7 8];\n%}\nfunction [L] = LightSource\nL = [35 45; ... the first\n"
        " 35 135; % [0 0; 0 0; 0 0; 0 0]\n 30 225; 30 315];\nend\n",
    ],
)
def test_light_source_forms(tmp_path, text, four_lights):
    path = tmp_path / "LightSource.m"
    path.write_text(text)
    assert np.allclose(read_light_source(path), four_lights, atol=1e-5)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "[1 2; 3 4]",
        "[a b; c d; e f; g h]",
        "[pi/4 0; 30 0; 30 90; 30 180]",
        "[95 0; 30 0; 30 90; 30 180]",
        "[30 400; 30 0; 30 90; 30 180]",
        "[NaN 0; 30 0; 30 90; 30 180]",
        "[30.5.1 0; 30 0; 30 90; 30 180]",
        "zenith1 = 20;",
        "zenith1=1;zenith2=1;zenith3=1;zenith5=1;azimuth1=1;azimuth2=1;azimuth3=1;azimuth4=1;",
        "zenith1=a;zenith2=1;zenith3=1;zenith4=1;azimuth1=1;azimuth2=1;azimuth3=1;azimuth4=1;",
        "zenith = [35 35 30]; azimuth = [45 135 225];",
        "[1 2 3; 4 5 6; 7 8 9; 1 2 3]",
        "[35 45 35 135 30 225 30 315]",
        "a = [35 45; 35 135; 30 225; 30 315]; b = [35 45; 35 135; 30 225; 30 310];",
        "\0\1\2\xff" * 50,
    ],
)
def test_other_light_sources_are_refused_by_name(tmp_path, text):
    path = tmp_path / "LightSource.m"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match=r"LightSource\.m: (expected zenith|angles out of range)"):
        read_light_source(path)


# --- sessions ---


def test_a_photoface_session_is_read(session, four_lights):
    capture = read_photoface(session)
    assert capture.name == f"0001_{NAME}" and np.allclose(capture.lights, four_lights, atol=1e-5)
    assert capture.images.shape == (4, 192, 192, 3) and capture.images.dtype == np.uint8 and capture.white == 255
    assert capture.attributes == {
        "gender": "female",
        "spectacles": "no",
        "facial_hair": "none",
        "pose": "1",
        "quality": "ok",
        "emotion": "blankstare",
    }
    assert capture.positions is None and capture.authors_normals is None and capture.authors_albedo is None
    assert np.array_equal(capture.points, POINTS)
    assert five_points(capture.points)[0, 0] < five_points(capture.points)[1, 0]


def test_lamps_stand_where_their_distance_puts_them(session):
    capture = read_photoface(session, light_distance_m=1.5)
    assert np.allclose(np.linalg.norm(capture.positions, axis=1), 1.5) and capture.positions.dtype == np.float32
    assert np.allclose(capture.positions / 1.5, capture.lights, atol=1e-6)
    for distance in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(InputError, match="distance of the lamps"):
            with_lamps_at(read_photoface(session), distance)


def test_grey_pictures_have_one_colour(session):
    for path in session.glob("*.bmp"):
        write_image(path, read_image(path)[..., 0])
    assert read_photoface(session).images.shape == (4, 192, 192, 1)


def _truncate(folder):
    path = folder / "im2.bmp"
    path.write_bytes(path.read_bytes()[:5000])


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda f: (f / "im3.bmp").unlink(), r"incomplete session, no im3\.bmp"),
        (_truncate, r"im2\.bmp: damaged image"),
        (lambda f: (f / "im1.bmp").write_bytes(b""), r"im1\.bmp: empty file"),
        (
            lambda f: write_image(f / "im1.bmp", np.zeros((8, 9, 3), np.uint8)),
            r"im1\.bmp: 9x8 pixels, but im0\.bmp has 192x192",
        ),
        (
            lambda f: write_image(f / "im1.bmp", np.zeros((192, 192), np.uint8)),
            r"im1\.bmp: 8-bit grey, but im0\.bmp is 8-bit colour",
        ),
        (lambda f: (f / "LightSource.m").write_text("?"), r"LightSource\.m: expected zenith"),
        (lambda f: (f / "metadata.txt").write_text("1 2 3"), r"metadata\.txt: expected x and y of 11 points, found 3"),
        (lambda f: (f / "metadata.txt").write_text("x y"), r"metadata\.txt: .*found words"),
        (
            lambda f: (f / "metadata.txt").write_text("9 " * 20 + "9 300"),
            r"metadata\.txt: point 11 at 9, 300 is outside",
        ),
        (lambda f: (f / "metadata.txt").write_text("nan " * 22), r"metadata\.txt: point 1 at nan, nan is outside"),
        (lambda f: (f / "metadata.txt").write_text("0 " * 22), r"metadata\.txt: the eyes are at one place, 0, 0"),
        (
            lambda f: (f / "metadata.txt").write_text("5 5 " * 2 + "9 9 " + "60 5 " * 2 + "9 9 " * 6),
            r"metadata\.txt: forehead and chin are at one place, 9, 9",
        ),
    ],
)
def test_spoilt_sessions_are_named(session, spoil, message):
    spoil(session)
    with pytest.raises(InputError, match=message):
        read_photoface(session)


def test_every_session_of_a_tree_is_found_or_named(tmp_path, session):
    def make(where, *files):
        folder = tmp_path / where
        folder.mkdir(parents=True)
        for name in files:
            (folder / name).touch()
        return folder

    whole = [f"im{i}.bmp" for i in range(4)] + ["LightSource.m"]
    expected = {
        make("0001/2020-01-02_03-04-06", *whole[:3]): "incomplete session, no im3.bmp, LightSource.m",
        make("0002/2020-01-02_03-04-05"): "incomplete session, no im0.bmp, im1.bmp, im2.bmp, im3.bmp, LightSource.m",
        make("0002/again", *whole): "its name 'again' is not YYYY-MM-DD_HH-MM-SS",
        make("adam/2020-01-02_03-04-05", *whole): "its subject 'adam' is not 4 digits",
    }
    make("0003/notes", "readme.txt")
    make("0003/.2020-01-02_03-04-05.7.tmp", *whole)
    found = find_sessions(tmp_path)
    assert found.sessions == [session] and found.rejected == expected


def test_missing_and_empty_folders_are_named(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        find_sessions(tmp_path / "none")
    with pytest.raises(InputError, match="no session"):
        find_sessions(tmp_path)
    with pytest.raises(InputError, match="neither a Photoface session"):
        open_capture(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        open_capture(tmp_path / "none")
    with pytest.raises(InputError, match="incomplete session"):
        read_photoface(tmp_path)


@pytest.mark.parametrize(
    "content, expected",
    [
        (
            "Male, Yes,BEARD,5,Blur,mobile phone,emoother",
            ("male", "yes", "beard", "5", "blur", "Mobile Phone", "emoOther"),
        ),
        ("male,,,,,,", ("male", None, None, None, None, None, None)),
        ("ï»¿male,no,none,1,ok,,positive\r\n", ("male", "no", "none", "1", "ok", None, "positive")),
    ],
)
def test_attributes_bear_the_databases_words(tmp_path, content, expected):
    (tmp_path / "metadataII.txt").write_bytes(content.encode("latin-1"))
    names = ("gender", "spectacles", "facial_hair", "pose", "quality", "occlusion", "emotion")
    assert read_attributes(tmp_path) == {n: v for n, v in zip(names, expected, strict=True) if v}


@pytest.mark.parametrize(
    "content, attributes, notes",
    [
        (b"male,no,none,1,ok,,positive,more,,and more", {"more": "more,,and more"}, None),
        (
            b"male,maybe,none,6,ok,,positive",
            {"spectacles": "maybe", "pose": "6"},
            "unknown spectacles 'maybe'.*pose '6'",
        ),
        (b"male,no", {"spectacles": "no"}, "2 fields, expected 7 or more"),
        (b"male,no,none,1,ok,,positive\nfemale,no,none,1,ok,,positive", {"gender": "male"}, "2 lines"),
        (b"\n \n", {}, "empty"),
        (b"\0\1\2", {}, "not text"),
    ],
)
def test_odd_attributes_are_kept_and_named(tmp_path, content, attributes, notes):
    (tmp_path / "metadataII.txt").write_bytes(content)
    found = read_attributes(tmp_path)
    assert attributes.items() <= found.items()
    assert ("notes" in found) == (notes is not None)
    assert notes is None or re.search(rf"metadataII\.txt: .*{notes}", found["notes"])


# --- what the owner's tools made ---


def savemat(path, **arrays):
    from scipy.io import savemat

    savemat(path, arrays)


def gradients(n):
    """px to the right, py downwards, of the height whose normals are ``n``; not a number off the ball."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return -n[..., 0] / n[..., 2], n[..., 1] / n[..., 2]


def test_the_owners_results_come_along(session):
    n, mask = sphere(192)
    px, py = gradients(n)
    savemat(session / "sn.mat", px=px, py=py)
    savemat(session / "albedo.mat", albedo=np.where(mask, 0.8, np.nan))
    capture = read_photoface(session)
    assert "notes" not in capture.attributes
    assert angle_deg(capture.authors_normals, n)[mask].max() < 0.1
    assert not capture.authors_normals[~mask].any() and not capture.authors_albedo[~mask].any()
    assert np.allclose(capture.authors_albedo[mask], 0.8)


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("sign_x", [1, -1])
@pytest.mark.parametrize("sign_y", [1, -1])
def test_other_axes_and_signs_of_the_owner_are_measured(tmp_path, swap, sign_x, sign_y):
    n, mask = sphere(64)
    px, py = gradients(n)
    if swap:
        px, py = py, px
    savemat(tmp_path / "sn.mat", px=sign_x * px, py=sign_y * py)
    as_read = read_normals(tmp_path / "sn.mat")
    found = compare(as_read, n, mask)
    assert found["authors_pixels"] == mask.sum() and found["authors_axes_error_deg"] < 0.1
    agree = not swap and sign_x == sign_y == 1
    assert (found["authors_axes"] == "x, y") == (found["authors_error_deg"] < 0.1) == agree
    if not swap and sign_x == 1:
        assert found["authors_frame"] == ("opengl" if agree else "directx")
    ours = [
        as_read[..., "xy".index(axis[-1])] * (-1 if axis[0] == "-" else 1) for axis in found["authors_axes"].split(", ")
    ]
    assert angle_deg(np.stack([*ours, as_read[..., 2]], -1), n)[mask].max() < 0.1


def test_the_owners_albedo_is_compared_up_to_a_factor():
    random = np.random.default_rng(0)
    ours, mask = random.uniform(0.4, 0.6, (50, 50)).astype(np.float32), np.ones((50, 50), bool)
    assert compare_albedo(ours * 300, ours, mask)["authors_albedo_error"] < 1e-6
    noisy = ours * 300 * random.normal(1, 0.1, ours.shape).astype(np.float32)
    assert compare_albedo(noisy, ours, mask)["authors_albedo_error"] == pytest.approx(0.1, abs=0.02)
    assert (
        compare_albedo(np.zeros_like(ours), ours, mask)
        == {}
        == compare(np.zeros((50, 50, 3)), np.ones((50, 50, 3)), mask)
    )


@pytest.mark.parametrize(
    "spoil, note",
    [
        (lambda f: savemat(f / "sn.mat", p=np.eye(3)), r"sn\.mat: no px in it, found p"),
        (
            lambda f: savemat(f / "sn.mat", px=np.eye(3), py=np.eye(3)),
            r"sn\.mat: 3x3 values, but the pictures have 192x192",
        ),
        (lambda f: savemat(f / "sn.mat", px=np.eye(3), py=np.eye(4)), r"sn\.mat: px is \(3, 3\), py is \(4, 4\)"),
        (lambda f: savemat(f / "albedo.mat", albedo="white"), r"albedo\.mat: albedo is no matrix of real numbers"),
        (
            lambda f: savemat(f / "albedo.mat", albedo=np.eye(3) * 1j),
            r"albedo\.mat: albedo is no matrix of real numbers",
        ),
        (
            lambda f: (f / "sn.mat").write_bytes(b"MATLAB 7.3 MAT-file" + bytes(600)),
            r"sn\.mat: a MATLAB 7\.3 file \(HDF5\)",
        ),
        (lambda f: (f / "sn.mat").write_bytes(b""), r"sn\.mat: not a MATLAB file"),
        (lambda f: (f / "sn.mat").write_bytes(b"x" * 300), r"sn\.mat: not a MATLAB file"),
    ],
)
def test_results_that_cannot_be_used_are_named_and_cost_nothing_else(session, spoil, note):
    spoil(session)
    capture = read_photoface(session)
    assert capture.authors_normals is None and capture.authors_albedo is None
    assert re.search(note, capture.attributes["notes"]), capture.attributes["notes"]
    assert str(session) not in capture.attributes["notes"]


def test_a_file_cut_short_is_refused(tmp_path):
    savemat(tmp_path / "albedo.mat", albedo=np.random.default_rng(0).random((40, 40)))
    path = tmp_path / "albedo.mat"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InputError, match=r"albedo\.mat: not a MATLAB file that can be read"):
        read_albedo(path)
