"""The frame, its pictures, other frames."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from casfne import normals


def test_frame_of_a_sphere(ball):
    n, mask = ball
    size = len(n)
    assert n[size // 2, size // 2] @ [0, 0, 1] > 0.999
    assert n[size // 2, 5, 0] < -0.8 and n[size // 2, -6, 0] > 0.8  # left of the picture: x < 0
    assert n[5, size // 2, 1] > 0.8 and n[-6, size // 2, 1] < -0.8  # top of the picture: y > 0
    picture = normals.encode(n, mask)
    assert picture[5, size // 2, 1] > 230  # up is green
    assert (picture[0, 0] == 128).all()


def test_round_trip_error_is_what_the_documentation_says(ball):
    n, mask = ball
    error = normals.angle_deg(normals.decode(normals.encode(n)), n)[mask]
    assert error.mean() < 0.18 and error.max() < 0.42


@given(st.floats(-180, 180), st.floats(-89, 89))
def test_angles_against_the_dot_product(azimuth, elevation):
    a, b = normals.direction(azimuth, elevation), np.array([0, 0, 1], np.float32)
    expected = np.degrees(np.arccos(np.clip(float(a[2]), -1, 1)))
    assert normals.angle_deg(a, b) == pytest.approx(expected, abs=0.05)
    assert np.linalg.norm(a) == pytest.approx(1, abs=1e-6)


def test_small_angles_keep_their_precision():
    tiny = normals.direction(0.001, 0)
    assert normals.angle_deg(tiny, [0, 0, 1]) == pytest.approx(0.001, rel=1e-3)


def test_azimuth_and_elevation_come_back():
    angles = np.stack(np.meshgrid(np.arange(-170, 180, 20), np.arange(-80, 90, 20)), -1)
    found = normals.azimuth_elevation(normals.direction(angles[..., 0], angles[..., 1]))
    np.testing.assert_allclose(found, angles, atol=1e-3)
    assert normals.azimuth_elevation([0, 1.0000001, 0])[1] == pytest.approx(90)


def test_directions_are_right_and_up():
    assert normals.direction(90, 0) == pytest.approx([1, 0, 0], abs=1e-6)
    assert normals.direction(0, 90) == pytest.approx([0, 1, 0], abs=1e-6)
    assert normals.direction_from_zenith(90, 90) == pytest.approx([0, 1, 0], abs=1e-6)


@pytest.mark.parametrize("source", normals.FRAMES)
@pytest.mark.parametrize("target", normals.FRAMES)
def test_conversion_round_trips(ball, source, target):
    n, _ = ball
    assert np.allclose(normals.convert(normals.convert(n, source, target), target, source), n)


def test_known_frames():
    up = np.array([0, 1, 0], np.float32)
    assert normals.convert(up, "opengl", "directx") == pytest.approx([0, -1, 0])
    assert normals.convert([0, 0, 1], "opengl", "opencv") == pytest.approx([0, 0, -1])
    assert normals.convert(up, "opengl", "sfs") == pytest.approx([-1, 0, 0])  # stored as (down, right, out)
    with pytest.raises(ValueError, match="unknown frame 'maya'"):
        normals.convert(up, "maya")


@pytest.mark.parametrize("frame", normals.FRAMES)
def test_a_frame_is_recognised(ball, frame):
    n, mask = ball
    found, certainty = normals.recognise_frame(normals.convert(n, "opengl", frame), mask)
    assert found == frame and certainty > 0.2


def test_zero_vectors_stay_zero():
    assert (normals.normalise([[0, 0, 0], [0, 3, 4]]) == np.array([[0, 0, 0], [0, 0.6, 0.8]], np.float32)).all()
