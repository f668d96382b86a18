"""Contact sheets, statistics, many portraits by several processes, and the commands that make them."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from casfne import cli, images
from casfne.capture import parallel
from casfne.capture.lighting.material import CLASSES
from casfne.capture.optics.framing import training_crop
from casfne.capture.parallel import Order, rendered
from casfne.capture.people.anny import anny_file, open_head_model
from casfne.capture.portraits import Portraits, Setting, render
from casfne.capture.scene import Studio
from casfne.capture.sheet import contact_sheet, statistics
from casfne.corpora.samples import read_index, read_sample
from casfne.errors import InputError

SIZE, COUNT, SEED = 48, 10, 3
RUN = CliRunner()


@pytest.fixture(scope="module")
def made() -> Portraits:
    torch.set_num_threads(1)
    return render(Studio([open_head_model("anny")]), SEED, range(COUNT), Setting(training_crop(SIZE)))


def test_several_processes_give_what_one_gives(made, monkeypatch):
    monkeypatch.setattr(parallel, "TOGETHER", 4)
    monkeypatch.setattr(parallel, "usable_cores", lambda: 2)
    parts = list(rendered(Order(["anny"], SEED, COUNT, Setting(training_crop(SIZE)))))
    assert [len(part.image) for part in parts] == [4, 4, 2]
    whole = Portraits.join(parts)
    assert torch.equal(whole.classes, made.classes) and torch.equal(whole.normal, made.normal)
    assert (whole.image.int() - made.image.int()).abs().float().mean() < 0.5


def test_a_faulty_order_is_named_before_any_process_starts(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.npz"):
        next(rendered(Order([str(tmp_path / "nowhere.npz")], SEED, 40, Setting(training_crop(SIZE)))))
    with pytest.raises(InputError, match="no pictures"):
        next(rendered(Order(["anny"], SEED, 40, Setting(training_crop(SIZE)), photographs=tmp_path)))
    with pytest.raises(InputError, match="no panoramas"):
        next(rendered(Order(["anny"], SEED, 40, Setting(training_crop(SIZE)), environments=tmp_path)))


def test_sheet_holds_every_portrait_beside_its_normals(made):
    sheet = contact_sheet(made, 4).numpy()
    assert sheet.shape == (3 * SIZE, 4 * 2 * SIZE, 3) and sheet.dtype == np.uint8
    row, column = 5 // 4 * SIZE, 5 % 4 * 2 * SIZE
    assert np.array_equal(sheet[row : row + SIZE, column : column + SIZE], made.image[5].permute(1, 2, 0).numpy())
    normals = sheet[row : row + SIZE, column + SIZE : column + 2 * SIZE] / 127.5 - 1
    seen = (made.classes[5, 0] > 0).numpy()
    assert np.abs(normals[seen] - made.normal[5].permute(1, 2, 0).numpy()[seen]).max() < 0.005
    assert (sheet[2 * SIZE :, 4 * SIZE :] == 255).all()  # two are missing in the last row


def test_statistics_say_what_is_there(made):
    found = statistics(made)
    assert found["portraits"] == COUNT and set(found["coverage"]) == set(CLASSES)
    assert abs(sum(found["coverage"].values()) - 1) < 1e-5
    assert found["yaw_deg"]["p50"] == pytest.approx(made.angles_deg[:, 0].quantile(0.5).item(), abs=0.01)
    for quantiles in (found["skin_lightness"], found["light_elevation_deg"]):
        assert list(quantiles.values()) == sorted(quantiles.values())
    assert found["skin_lightness"]["p5"] > 15 and found["skin_lightness"]["p95"] < 90
    json.dumps(found)


def test_command_sheet(tmp_path):
    out = tmp_path / "sheet.png"
    result = RUN.invoke(cli.app, ["studio", "sheet", "--count", "3", "--seed", "3", "--size", "48", "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["portraits"] == 3
    assert images.read_image(out).shape == (48, 3 * 96, 3)


def test_command_render_writes_samples_that_training_reads(tmp_path, made):
    arguments = ["--count", "3", "--seed", "3", "--size", "48", "--out", str(tmp_path), "--heads", str(anny_file())]
    result = RUN.invoke(cli.app, ["studio", "render", *arguments])
    assert result.exit_code == 0, result.output
    index = read_index(tmp_path)
    assert list(index["source"].unique()) == ["studio"] and index["subject"].is_unique and len(index) == 3
    for i, row in enumerate(index.itertuples()):
        sample = read_sample(tmp_path, row.archive, row.light)
        assert np.array_equal(sample.mask, (made.classes[i, 0] == 1).numpy())
        truth = made.normal[i].permute(1, 2, 0).numpy()
        assert np.abs(sample.normal - truth)[sample.mask].max() < 2e-3
        assert row.coverage == pytest.approx(sample.mask.mean()) and row.mean_trust == 1
        with np.load(tmp_path / row.archive) as stored:
            assert stored["depth"].shape == (48, 48) and stored["landmarks"].shape == (68, 2)
            assert set(np.unique(stored["classes"])) <= set(range(len(CLASSES)))
    assert not pd.isna(index["yaw_deg"]).any()


def test_an_index_goes_before_its_portraits_change(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    (tmp_path / "index.parquet").write_bytes(b"of another render")
    monkeypatch.setattr("casfne.corpora.rendered.write_portrait", interrupted)
    RUN.invoke(cli.app, ["studio", "render", "--count", "1", "--size", "48", "--out", str(tmp_path)])
    assert not (tmp_path / "index.parquet").exists()


def test_commands_name_what_is_wrong(tmp_path):
    foreign = tmp_path / "foreign.npz"
    np.savez(foreign, a=np.zeros(3))
    for arguments, message in (
        (["studio", "sheet", "--out", str(tmp_path / "s.png"), "--heads", str(foreign)], "foreign.npz"),
        (["studio", "sheet", "--out", str(tmp_path / "s.txt"), "--heads", str(foreign)], "expected a picture in .png"),
        (["facekit", "import", str(tmp_path), "--out", str(tmp_path / "f.npz")], str(tmp_path)),
    ):
        result = RUN.invoke(cli.app, arguments)
        assert isinstance(result.exception, InputError) and message in str(result.exception)
    assert not (tmp_path / "s.png").exists() and not (tmp_path / "f.npz").exists()
