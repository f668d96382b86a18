"""Photometric stereo: render, then recover; readers and their refusals; real captures."""

import numpy as np
import pytest

from casfne.errors import InputError
from casfne.images import to_uint8, write_image
from casfne.normals import angle_deg, direction, recognise_frame, sphere
from casfne.stereo.captures import Capture, find_sessions, five_points, open_capture, read_photoface
from casfne.stereo.face import face_region, held_out_error, solve_capture
from casfne.stereo.lights import read_light_source, yale_light
from casfne.stereo.solve import predict, solve

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


def write_session(folder, lights, size=192, extra=""):
    """A Photoface session of a matte sphere; gives its normals and mask."""
    n, mask = sphere(size)
    folder.mkdir(parents=True)
    for i, image in enumerate(predict(n * 0.8, lights)):
        write_image(folder / f"im{i}.bmp", np.repeat(to_uint8(image * mask)[..., None], 3, -1))
    (folder / "LightSource.m").write_text(MATRIX + extra)
    (folder / "metadata.txt").write_text("\n".join(f"{x} {y}" for x, y in POINTS))
    (folder / "metadataII.txt").write_text("female,no,none,1,ok,,blankstare,more\n")
    return n, mask


def test_a_lambertian_sphere_is_recovered(ball, four_lights):
    n, mask = ball
    surface = solve(predict(n * 0.8, four_lights) * mask, four_lights, shadow=0, saturation=2)
    seen = surface.mask & mask
    assert seen.sum() > 0.6 * mask.sum()
    assert angle_deg(surface.normals, n)[seen].max() < 1
    assert np.abs(surface.albedo[seen] - 0.8).max() < 0.01
    assert not surface.mask[~mask].any()


def test_shadowed_and_saturated_pixels_are_left_out(ball, four_lights):
    n, mask = ball
    images = predict(n * 0.8, four_lights) * mask
    spoilt = images.copy()
    spoilt[0, 40:50, 40:50] = 0.01  # a cast shadow
    spoilt[1, 40:50, 52:60] = 1.0  # a highlight
    surface = solve(spoilt, four_lights, shadow=0.03, saturation=0.98)
    assert angle_deg(surface.normals, n)[40:50, 40:60].max() < 1
    assert (surface.used[40:50, 40:50] == 3).all()
    assert surface.trust[40:50, 40:50].max() <= 0.4 < surface.trust[44:48, 50:52].min()


def test_trimming_survives_a_light_that_lies(ball):
    n, mask = ball
    lights = np.stack([direction(a, e) for a in (-40, -15, 15, 40) for e in (-20, 5, 30)])
    images = predict(n * 0.7, lights) * mask
    images[5, 30:70, 30:70] *= 0.4  # half-lit, too bright to be called a shadow
    surface = solve(images, lights)
    assert angle_deg(surface.normals, n)[35:65, 35:65].mean() < 0.5


def test_what_cannot_be_solved_is_not_trusted(ball, four_lights):
    n, mask = ball
    flat = np.stack([direction(a, 0) for a in (-40, -10, 10, 40)])
    with pytest.raises(InputError, match="lie in one plane"):
        solve(predict(n * 0.8, flat) * mask, flat)
    with pytest.raises(InputError, match="2 lights"):
        solve(np.ones((2, 4, 4), np.float32), flat[:2])
    dark = solve(np.zeros((4, 4, 4), np.float32), four_lights)
    saturated = solve(np.ones((4, 4, 4), np.float32), four_lights)
    for surface in (dark, saturated):
        assert not surface.mask.any() and not surface.trust.any()


@pytest.mark.parametrize(
    "text",
    [
        MATRIX,
        "L=[0.610865 0.785398; 0.610865 2.356194; 0.523599 3.926991; 0.523599 5.497787]",
        "".join(
            f"zenith{i + 1} = {z};\nazimuth{i + 1} = {a};\n"
            for i, (z, a) in enumerate([(35, 45), (35, 135), (30, 225), (30, 315)])
        ),
        "".join(
            f"zenith({i + 1}) = {z}; azimuth({i + 1}) = {a};\n"
            for i, (z, a) in enumerate([(35, 45), (35, 135), (30, 225), (30, 315)])
        ),
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
        "[95 0; 30 0; 30 90; 30 180]",
        "zenith1 = 20;",
        "[1 2 3; 4 5 6; 7 8 9; 1 2 3]",
    ],
)
def test_other_light_sources_are_refused_by_name(tmp_path, text):
    path = tmp_path / "LightSource.m"
    path.write_text(text)
    with pytest.raises(InputError, match=r"LightSource\.m: "):
        read_light_source(path)


def test_yale_azimuth_is_the_persons():
    assert yale_light("yaleB01_P00A+070E+00")[0] < -0.9  # a light to the person's right: left in the picture
    assert yale_light("yaleB01_P00A+000E-35")[1] < -0.5
    with pytest.raises(InputError, match="no light in the name"):
        yale_light("yaleB01_P00")


def test_a_photoface_session_is_read(tmp_path, four_lights):
    session = tmp_path / "0001" / "2020-01-02_03-04-05"
    n, _ = write_session(session, four_lights)
    assert find_sessions(tmp_path) == [session]
    capture = read_photoface(session)
    assert capture.name == "0001_2020-01-02_03-04-05" and np.allclose(capture.lights, four_lights, atol=1e-5)
    assert capture.attributes == {
        "gender": "female",
        "spectacles": "no",
        "facial_hair": "none",
        "pose": "1",
        "quality": "ok",
        "emotion": "blankstare",
    }
    surface = solve_capture(capture, 0.03, 0.98)
    assert angle_deg(surface.normals, n)[surface.mask].mean() < 1
    assert surface.mask[100, 96] and not surface.mask[4].any()  # cut to the face's ellipse
    assert five_points(capture.points)[0, 0] < five_points(capture.points)[1, 0]


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
        (lambda f: (f / "LightSource.m").write_text("?"), r"LightSource\.m: expected zenith"),
        (
            lambda f: (f / "metadata.txt").write_text("1 2 3"),
            r"metadata\.txt: expected x and y of 11 points, found 3",
        ),
    ],
)
def test_spoilt_sessions_are_named(tmp_path, four_lights, spoil, message):
    session = tmp_path / "0001" / "2020-01-02_03-04-05"
    write_session(session, four_lights)
    spoil(session)
    with pytest.raises(InputError, match=message):
        read_photoface(session)


def test_missing_and_empty_folders_are_named(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        find_sessions(tmp_path / "none")
    with pytest.raises(InputError, match="no session"):
        find_sessions(tmp_path)
    with pytest.raises(InputError, match="neither a Photoface session"):
        open_capture(tmp_path)
    (tmp_path / "0001" / "2020-01-02_03-04-05").mkdir(parents=True)
    with pytest.raises(InputError, match="incomplete session"):
        read_photoface(tmp_path / "0001" / "2020-01-02_03-04-05")


def test_held_out_lights_of_a_matte_sphere_are_predicted(ball):
    n, mask = ball
    lights = np.stack([direction(a, e) for a in (-45, -20, 0, 20, 45) for e in (-30, 0, 30)])
    images = np.repeat((predict(n * 0.7, lights) * mask)[..., None], 3, -1)
    error = held_out_error(Capture("ball", images, lights), 5, 0.03, 0.98)
    assert error["solved_from"] == 10 and error["mean_abs_error_of_255"] < 0.5
    assert error["relative_error"] < 0.1 * error["relative_error_of_a_flat_face"]


def test_the_face_region_follows_the_points():
    region = face_region(POINTS.astype(float), 192, 192)
    assert all(region[int(y), int(x)] for x, y in POINTS)
    assert 0.15 < region.mean() < 0.6


@pytest.mark.parametrize("person", ["yaleB01", "yaleB02"])
def test_real_captures_predict_lights_they_have_not_seen(shared_data, person):
    capture = open_capture(shared_data / "yale_b" / person)
    assert capture.images.shape == (64, 192, 168, 3)
    error = held_out_error(capture, 16, 8 / 255, 0.98)
    assert error["solved_from"] == 48 and error["predicted"] == 16
    assert error["relative_error"] < 0.2 < error["relative_error_of_a_flat_face"]
    surface = solve_capture(capture, 8 / 255, 0.98)
    mean = surface.normals[surface.mask].mean(0)
    assert abs(mean[0]) < 0.07  # a frontal face is balanced left and right
    assert recognise_frame(surface.normals, surface.mask)[0] == "opengl"
