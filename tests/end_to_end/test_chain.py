"""The whole chain on a tiny profile, in a copy of the project, and every command of the README.

The copy is a repository of its own, so nothing here touches the checkout's data. `make` targets are only planned
(`make -n`): they install, and `make test` would run this very test.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import ROOT
from test_authors import release, saved

import casfne
from casfne import table
from casfne.corpora.samples import read_index, read_sample
from casfne.normals import angle_deg

# flashes as far as stereo takes them, matt skin, heads that keep still: then stereo and truth must agree
IDEAL = {"light_distance": 1000.0, "gloss": 0.0, "motion": 0.0}
TINY = {
    "simulate": {"people": 4, "sessions": 1, "height": 240, "width": 320, "corpus_images": 2} | IDEAL,
    "prepare": {"light_distance": None},
    "split": {"test_share": 0.25},
    "evaluate": {"figure_rows": 1},
}
PROFILE = {
    "portraits": None,
    "width": 4,
    "encoder": "resnet18",
    "start": "random",
    "normalisation": "none",
    "residual": False,
    "symmetric": False,
    "weight_decay": 0.0,
    "clip_norm": 0,
    "ema": 0,
    "schedule": [
        {"size": 64, "batch": 4, "steps": 8, "learning_rate": 0.001, "end_rate": 0.001, "augment": ["flip"]},
    ],
}
ENVIRONMENT = os.environ | {
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "DVC_NO_ANALYTICS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "COLUMNS": "200",
    **{f"GIT_{who}_{what}": "test@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
}


def run(command, cwd, check=True):
    """A shell line as a user types it; the finished process."""
    done = subprocess.run(shlex.split(command), cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, timeout=900)
    assert not check or done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the checkout with tiny parameters, its chain run once."""
    copy = tmp_path_factory.mktemp("work") / "casfne"
    files = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in files.stdout.splitlines():
        if (ROOT / name).is_file() and name != "dvc.lock":
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    set_parameters(copy)
    run("git init -q", copy)
    run("git add -A", copy)
    run("git commit -q -m start", copy)
    run("dvc repro report", copy)
    return copy


def set_parameters(project, **changes):
    """Write the tiny parameters; ``changes``: section={key: value}."""
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    for section, values in TINY.items():
        content[section] |= values
    content["train"]["profiles"]["demo"] = PROFILE
    for section, values in changes.items():
        content[section] |= values
    (project / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))


def test_every_stage_leaves_what_it_promises(project):
    index = read_index(project / "data/samples")
    assert len(index) == 4 * 4 and index["stereo_error_deg"].notna().all()
    metrics = json.loads((project / "data/evaluation/evaluation.json").read_text())
    assert set(metrics["by_pixel"]) == {"constant", "mean_map", "t0", "t1", "t2"}
    headlines = json.loads((project / "data/metrics/evaluate.json").read_text())
    assert headlines["mean_deg"] == {name: numbers["mean_deg"] for name, numbers in metrics["by_pixel"].items()}
    assert headlines["last"].items() <= metrics["by_pixel"]["t2"].items()
    labels = table.read(project / "data/labels")
    assert labels.groupby("corpus").size().to_dict() == {"300w": 2, "celeba": 2, "ffhq": 2}
    assert (labels["status"] == "ok").all() and labels["confidence_deg"].isna().all()  # four people spare none
    assert len(pd.read_parquet(project / "data/labels")) == 6
    page = (project / "data/report/index.html").read_text()
    assert "t = 2" in page and page.count('"name":"') == 4 + 6 and "table.read" in page
    assert not (project / "data/model/checkpoint.pt").exists()


def test_a_second_run_does_nothing(project):
    before = (project / "dvc.lock").read_text()
    assert "Data and pipelines are up to date" in run("dvc repro report", project).stdout
    assert (project / "dvc.lock").read_text() == before


def test_simulation_and_stereo_agree(project):
    prepare = json.loads((project / "data/metrics/prepare.json").read_text())
    assert prepare["sessions"] == 4 and prepare["failed_sessions"] == 0
    assert prepare["stereo_error_deg"] < 4 and prepare["stereo_error_where_trusted_deg"] < 2.5


def test_half_precision_hardly_changes_the_trained_normals(project):
    index = read_index(project / "data/samples")
    samples = [read_sample(project / "data/samples", a, 0) for a in index["archive"].unique()]
    crops, mask = np.stack([s.image for s in samples]), np.stack([s.mask for s in samples])
    weights = project / "data/model/model.safetensors"
    full, half = (casfne.load(weights, "cpu", p).predict(crops) for p in ("fp32", "bf16"))
    assert angle_deg(full, half)[mask].mean() < 0.15  # of a network four channels wide; wider ones round less


def readme_commands():
    """The lines of the README's shell blocks, comments off."""
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    return [line.split("#")[0].strip() for block in blocks for line in block.splitlines() if line.strip()]


def test_every_command_of_the_readme_runs(project):
    """In order, word for word; `photos`, `../PhotofaceDB` and `epoch_500.pth` are what a reader would have."""
    faces = sorted((project / "data/corpora/ffhq").rglob("*.png"))
    (project / "photos").mkdir()
    shutil.copy(faces[0], project / "photos/face.png")
    shutil.copytree(project / "data/captures/photoface", project.parent / "PhotofaceDB")
    saved(project / "epoch_500.pth", release(4))
    commands = readme_commands()
    assert len(commands) > 12
    for command in commands:
        if command.startswith("make "):
            assert run(command.replace("make ", "make -n ", 1), ROOT).stdout
        elif not command.startswith("source "):
            run(command, project)
    assert (project / "out/photos.png").is_file() and (project / "out/stereo/summary.json").is_file()
    assert len(table.read(project / "out/celeba")) == 2
    experiments = run("dvc exp show --csv", project).stdout
    assert "../PhotofaceDB" in experiments and experiments.count("\n") >= 3


def test_the_readmes_python_runs(project):
    source = (ROOT / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", source, re.S)
    assert len(blocks) == 4
    script = "\n".join(blocks) + "\nprint(normals.shape, normals.dtype)"
    done = run(f"{sys.executable} -c {shlex.quote(script)}", project)
    assert done.stdout.strip() == "(1, 256, 256, 3) float32"


@pytest.mark.parametrize(
    "stage, changes, message",
    [
        ("prepare", {"prepare": {"rooot": "x"}}, "prepare.rooot: unknown key"),
        ("prepare", {"prepare": {"root": "data/nowhere"}}, "data/nowhere: no such folder"),
        ("train", {"train": {"refinements": "two"}}, "train.refinements: expected int, got 'two'"),
        ("train", {"train": {"profile": "papre"}}, "train.profile: 'papre' is none of"),
        ("label", {"label": {"corpora": {"celebra": "data/corpora/celeba"}}}, "unknown corpus 'celebra'"),
        ("simulate", {"simulate": {"people": 2.5}}, "simulate.people: expected int, got 2.5"),
    ],
)
def test_bad_parameters_stop_a_stage_in_one_line(project, stage, changes, message):
    set_parameters(project, **changes)
    done = run(f"python pipeline/{stage}.py", project, check=False)
    set_parameters(project)
    assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr
    assert len([line for line in done.stderr.splitlines() if line.startswith("error:")]) == 1


def test_a_bad_session_stops_prepare_and_is_named(project, tmp_path):
    root = tmp_path / "broken"
    shutil.copytree(project / "data/captures/photoface", root)
    next(root.rglob("im3.bmp")).unlink()
    set_parameters(project, prepare={"root": str(root)})
    done = run("python pipeline/prepare.py", project, check=False)
    set_parameters(project)
    assert done.returncode == 1 and "1 of 4 sessions cannot be used" in done.stderr and "no im3.bmp" in done.stderr
    path = project / "data/samples/index.parquet"
    assert not path.exists()  # it would speak of archives that may have been made anew
    run("python pipeline/prepare.py", project)
    assert pd.read_parquet(path)["archive"].nunique() == 4


def test_a_killed_training_goes_on_and_a_stale_one_does_not(project):
    def train_for(steps):
        profile = PROFILE | {"schedule": [PROFILE["schedule"][0] | {"steps": steps}]}
        set_parameters(project, train={"profiles": {"demo": profile, "paper": profile}, "checkpoint_every": 5})

    def logged():
        return pd.read_csv(project / "data/train_log/plots/metrics/train/loss.tsv", sep="\t")

    model, checkpoint = project / "data/model/model.safetensors", project / "data/model/checkpoint.pt"
    for steps, goes_on in ((20, True), (21, False)):
        train_for(20)
        command = [sys.executable, "pipeline/train.py"]
        with subprocess.Popen(command, cwd=project, env=ENVIRONMENT, stdout=subprocess.DEVNULL) as running:
            while not checkpoint.exists():
                assert running.poll() is None, "the training ended before its first checkpoint"
            running.kill()
        train_for(steps)
        done = run("python pipeline/train.py", project)
        assert ("going on at step" in done.stdout) == goes_on
        assert logged()["step"].tolist() == [10, 20] + [21] * (steps == 21)
        assert np.isfinite(logged()["loss"]).all() and model.is_file() and not checkpoint.exists()
    set_parameters(project)
