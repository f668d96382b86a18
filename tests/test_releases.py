import numpy as np
import pytest
from typer.testing import CliRunner

import casfne
from casfne.cli import app
from casfne.errors import InputError
from casfne.images import read_image, write_image
from casfne.model import releases
from casfne.model.confidence import names
from casfne.model.releases import RELEASES, weights_file


@pytest.mark.parametrize("name", RELEASES)
def test_a_release_loads_by_name_and_knows_its_errors(name):
    predictor = casfne.load(name, "cpu")
    assert predictor.name == name and predictor.sha256 == RELEASES[name]
    assert set(predictor.about["confidence"]) == set(names(112 + 320))


def test_releases_are_small():
    assert sum(weights_file(name).stat().st_size for name in RELEASES) < 45e6


def test_a_name_goes_before_a_file_of_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "release").write_text("no weights")
    assert weights_file("release") == releases.FOLDER / "release.safetensors"
    assert weights_file("./release").read_text() == "no weights"


def test_what_is_missing_or_changed_is_refused_by_name(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"no weights at realese: .* release"):
        weights_file("realese")
    published = weights_file("release").read_bytes()
    monkeypatch.setattr(releases, "FOLDER", tmp_path)
    with pytest.raises(InputError, match="no weights at"):
        weights_file("release")
    changed = bytearray(published)
    changed[-1] ^= 1
    (tmp_path / "release.safetensors").write_bytes(changed)
    with pytest.raises(InputError, match="not the weights that were published"):
        casfne.load("release")


def test_the_commands_take_the_release_when_nothing_is_named(tmp_path):
    write_image(tmp_path / "crops" / "a.png", np.random.default_rng(0).integers(0, 255, (256, 256, 3), dtype=np.uint8))
    done = CliRunner().invoke(app, ["predict", str(tmp_path / "crops"), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    written = np.load(tmp_path / "out" / "a.npy")
    crop = read_image(tmp_path / "crops" / "a.png")
    assert np.array_equal(written, casfne.load("release").predict_at_source([crop])[0])
