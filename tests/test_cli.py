"""The command line: what it writes, what it refuses, on simulated and on real input."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT
from safetensors import safe_open
from test_authors import release, saved
from typer.testing import CliRunner

from casfne.ask import condition
from casfne.cli import app
from casfne.errors import InputError
from casfne.images import read_image, to_uint8, write_image
from casfne.model.cascade import Cascade, CascadeConfig
from casfne.model.checkpoints import load_weights, save_weights
from casfne.normals import recognise_frame, sphere
from casfne.stereo.surface import predict


def casfne(*arguments, cwd=ROOT):
    """The command as a user runs it, in a process of its own."""
    command = [sys.executable, "-m", "casfne.cli", *map(str, arguments)]
    environment = os.environ | {"COLUMNS": "200", "RAY_USAGE_STATS_ENABLED": "0"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture
def session(tmp_path, four_lights):
    folder = tmp_path / "session"
    n, mask = sphere(192)
    for i, image in enumerate(predict(n * 0.8, four_lights)):
        write_image(folder / f"im{i}.bmp", np.repeat(to_uint8(image * mask)[..., None], 3, -1))
    (folder / "LightSource.m").write_text("[35 45; 35 135; 30 225; 30 315]")
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_weights(path, Cascade(CascadeConfig(4, 1)), {"confidence": {"one": 2.0}})
    return path


@pytest.mark.parametrize(
    "command",
    [
        *([name] for name in ("stereo", "label", "query", "show", "model-info", "import-checkpoint", "export")),
        *([name] for name in ("relight", "shade", "enhance", "compare", "report", "truth", "predict")),
        *(["figure", name] for name in ("stages", "errors", "relit", "geometry")),
        [],
    ],
)
def test_help_teaches(command):
    result = CliRunner().invoke(app, [*command, "--help"])
    assert result.exit_code == 0 and "Usage" in result.output
    assert not command or "Example: casfne" in result.output


def test_stereo_writes_what_it_promises(session, tmp_path):
    out = tmp_path / "out"
    result = casfne("stereo", session, "--out", out)
    assert result.returncode == 0, result.stderr
    arrays = {"normals.npy", "albedo.npy", "trust.npy", "depth.npy"}
    pictures = {"normals.png", "albedo.png", "trust.png", "mask.png", "figure.png"}
    assert {p.name for p in out.iterdir()} == arrays | pictures | {"summary.json"}
    normals, trust, mask = (
        np.load(out / "normals.npy"),
        np.load(out / "trust.npy"),
        read_image(out / "mask.png")[..., 0],
    )
    assert normals.shape == (192, 192, 3) and normals.dtype == np.float32 and trust.shape == (192, 192)
    assert np.linalg.norm(normals[mask > 0], axis=-1) == pytest.approx(1, abs=1e-5)
    assert np.load(out / "albedo.npy")[96, 96] == pytest.approx(0.8, abs=0.02)
    assert json.loads((out / "summary.json").read_text()) == json.loads(result.stdout)


def paint(folder, value, numbers=range(4)):
    for number in numbers:
        write_image(folder / f"im{number}.bmp", np.full((192, 192, 3), value, np.uint8))


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda f: (f / "im3.bmp").unlink(), "incomplete session, no im3.bmp"),
        (lambda f: (f / "im2.bmp").write_bytes((f / "im2.bmp").read_bytes()[:4000]), "im2.bmp: damaged image"),
        (
            lambda f: write_image(f / "im1.bmp", np.zeros((9, 8, 3), np.uint8)),
            "im1.bmp: 8x9 pixels, but im0.bmp has 192x192",
        ),
        (lambda f: (f / "LightSource.m").write_text("lights = ?"), "LightSource.m: expected zenith"),
        (lambda f: (f / "im0.bmp").write_bytes(b""), "im0.bmp: empty file"),
        (lambda f: (f / "im0.bmp").write_text("no picture"), "im0.bmp: not an image"),
        (lambda f: [p.unlink() for p in f.iterdir()], "neither a Photoface session"),
        (lambda f: f.rename(f.with_name("gone")), "no such folder"),
        (lambda f: paint(f, 0), "at most 0 lights are usable at a pixel, the brightest value is 0% of full scale"),
        (lambda f: paint(f, 255), "at most 0 lights are usable at a pixel, the brightest value is 100% of full scale"),
        (lambda f: paint(f, 0, (2, 3)), "at most 2 lights are usable"),
        (lambda f: (f / "LightSource.m").write_text("[40 45; 40 45; 40 45; 40 45]"), "4 lights lie in one plane"),
        (lambda f: (f / "LightSource.m").write_text("[40 0; 10 180; 20 0; 30 0]"), "4 lights lie in one plane"),
        (lambda f: (f / "LightSource.m").write_text("[40 45; 40 135; NaN 225; 40 315]"), "LightSource.m: expected"),
        (lambda f: (f / "LightSource.m").write_text("[40 45; 40 135; 40 315]"), "LightSource.m: expected"),
    ],
)
def test_stereo_refuses_in_one_line_and_leaves_nothing(session, tmp_path, spoil, message):
    spoil(session)
    result = casfne("stereo", session, "--out", tmp_path / "out")
    assert result.returncode == 1 and message in result.stderr
    assert result.stderr.count("\n") == 1 and "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()


def test_held_out_that_leaves_too_few_lights_is_refused(session, tmp_path):
    result = casfne("stereo", session, "--out", tmp_path / "out", "--held-out", "2")
    assert result.returncode == 1 and "cannot hold out 2 of 4" in result.stderr and result.stderr.count("\n") == 1


def test_stereo_on_a_real_capture(shared_data, tmp_path):
    out = tmp_path / "out"
    result = casfne("stereo", shared_data / "yale_b" / "yaleB02", "--out", out, "--held-out", "16")
    assert result.returncode == 0, result.stderr
    summary = json.loads(result.stdout)
    assert summary["held_out"]["solved_from"] == 48 and summary["held_out"]["relative_error"] < 0.2
    normals, mask = np.load(out / "normals.npy"), read_image(out / "mask.png")[..., 0] > 0
    assert recognise_frame(normals, mask)[0] == "opengl"


def test_label_show_and_query_on_real_portraits(shared_data, weights, tmp_path):
    out = tmp_path / "labels"
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"")
    (tmp_path / "casfne").mkdir()  # a folder of our name, as beside a clone, which is not the package
    result = casfne("label", shared_data / "portraits", bad, "--out", out, "--weights", weights, cwd=tmp_path)
    assert result.returncode == 1 and "bad.jpg: empty file" in result.stderr  # all was labelled, one failed
    assert "14 images, 15 faces" in result.stdout
    invoke = CliRunner().invoke
    query = invoke(app, ["query", str(out), "--where", "status == ok", "--columns", "image_id,face_index", "--csv"])
    rows = query.stdout.splitlines()
    assert rows[0] == "image_id,face_index" and len(rows) == 16
    assert "1 of 1 rows" in invoke(app, ["query", str(out), "--where", "status == unreadable"]).stdout
    shown = invoke(app, ["show", str(out), "--out", str(tmp_path / "grid.png"), "--limit", "3"])
    assert shown.exit_code == 0 and "3 faces" in shown.stdout
    assert read_image(tmp_path / "grid.png").shape[0] > 3 * 256
    again = casfne("label", shared_data / "portraits", "--out", out, "--weights", weights)
    assert again.returncode == 1 and "overwrite" in again.stderr and "\n" not in again.stderr.strip()


def test_label_without_weights_names_those_that_come_along(tmp_path):
    write_image(tmp_path / "a.png", np.zeros((32, 32, 3), np.uint8))
    result = casfne("label", tmp_path / "a.png", "--out", tmp_path / "out", "--weights", "w.safetensors", cwd=tmp_path)
    assert result.returncode == 1 and "the name of a release: release" in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["nowhere"], "nowhere"),
        (["."], "no"),
        ([".", "--corpus", "celebra"], "unknown corpus 'celebra'"),
        ([".", "--corpus", "celeba"], "celeba"),
        ([".", "--paste", "pasted"], "pasted: lies inside the input"),
        (["a.png", "--paste", "a.png"], "a.png: is a file"),
        (["a.png", "--device", "cuda:1"], "CUDA_VISIBLE_DEVICES"),
    ],
)
def test_label_refuses_in_one_line_and_writes_nothing(weights, tmp_path, arguments, message):
    if "a.png" in arguments:
        write_image(tmp_path / "a.png", np.zeros((32, 32, 3), np.uint8))
    result = casfne("label", *arguments, "--out", "out", "--weights", weights, cwd=tmp_path)
    assert result.returncode == 1 and message in result.stderr and "\n" not in result.stderr.strip()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("column", ["-normal", "normal_octahedral", "crop_to_image", "stages"])
def test_query_sorts_by_what_has_an_order(tmp_path, column):
    result = CliRunner().invoke(app, ["query", str(tmp_path), "--sort", column])
    assert isinstance(result.exception, InputError) and "has no order" in str(result.exception)


def test_show_knows_before_the_work_what_it_can_write(tmp_path):
    for name in ("x", "x.xyz", ""):
        result = CliRunner().invoke(app, ["show", str(tmp_path), "--out", str(tmp_path / name)])
        assert isinstance(result.exception, InputError) and "expected a picture in .png" in str(result.exception)


def test_query_refuses_what_it_cannot_do(tmp_path):
    result = casfne("query", tmp_path)
    assert result.returncode == 1 and "no label files" in result.stderr
    assert condition("roughness_deg > 5") == ("roughness_deg", ">", 5.0)
    assert condition("image_id == 'a b'") == ("image_id", "==", "a b")
    assert condition("face_index>=1") == ("face_index", ">=", 1)
    for text, message in (
        ("colour > 5", "no column"),
        ("roughness_deg", "expected COLUMN"),
        ("coverage < x", "number"),
        ("status > ok", "text"),
    ):
        with pytest.raises(InputError, match=message):
            condition(text)


def test_model_info_counts_the_network_and_names_the_origin(weights):
    plain = CliRunner().invoke(app, ["model-info"])
    assert plain.exit_code == 0
    assert all(text in plain.output for text in ("18,102,758", "11,767,683", "3.57 G", "7.31 G", "29.28 M"))
    of_weights = CliRunner().invoke(app, ["model-info", str(weights)])
    assert "F = 4, fusion cat" in of_weights.output
    with safe_open(weights, "pt") as file:
        recorded = file.metadata()
    assert recorded.keys() == {"format", "frame", "code_version", "config", "about"}
    assert json.JSONDecoder().raw_decode(of_weights.output)[0] == {
        name: json.loads(text) if text.startswith("{") else text for name, text in recorded.items()
    }


def test_the_authors_checkpoint_is_imported_and_labels_can_use_it(tmp_path):
    source, out = saved(tmp_path / "epoch_500.pth", release(4)), tmp_path / "weights.safetensors"
    done = CliRunner().invoke(app, ["import-checkpoint", str(source), "--out", str(out), "--frame", "opengl", "--half"])
    assert done.exit_code == 0 and "F = 4, T = 2" in done.output
    network, about = load_weights(out)
    assert network.config.refinements == 2 and about["epoch"] == 500
    other = casfne("import-checkpoint", source, "--out", tmp_path / "b.safetensors", "--frame", "up")
    assert other.returncode == 1 and "frame 'up'" in other.stderr and other.stderr.count("\n") == 1
    assert not (tmp_path / "b.safetensors").exists()


@pytest.mark.parametrize("suffix", ["onnx", "pt2", "safetensors"])
def test_export_writes_every_kind(weights, tmp_path, suffix):
    out = tmp_path / f"model.{suffix}"
    done = CliRunner().invoke(app, ["export", "--weights", str(weights), "--out", str(out)])
    assert done.exit_code == 0 and f"{out.stat().st_size / 1e6:.1f} MB" in done.output
    if suffix == "safetensors":
        assert out.stat().st_size < 0.55 * weights.stat().st_size and load_weights(out)[1]["confidence"] == {"one": 2.0}


def test_an_export_of_another_kind_is_refused(weights, tmp_path):
    done = casfne("export", "--weights", weights, "--out", tmp_path / "model.trt")
    assert done.returncode == 1 and "expected a name in .onnx or .pt2" in done.stderr
    assert not (tmp_path / "model.trt").exists()
