"""docs/labels.md: its blocks run, in order, in one process, on labels of a stand-in."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from numpy.typing import NDArray

from casfne import files, images, schema
from casfne.corpora.record import Photo
from casfne.labelling import faces
from casfne.labelling import label as steps
from casfne.normals import sphere

BLOCKS = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs" / "labels.md").read_text(), re.M | re.S)
OPTIONAL = ("duckdb", "datasets")
POINTS = np.array([[40.0, 50], [80, 50], [60, 72], [45, 95], [75, 95]])


class StandIn:
    """A predictor: the same ball for every face, after one refinement."""

    name, sha256, refinements, precision = "stand-in", "0" * 64, 1, "fp32"

    def assess(self, crops: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        ball, inside = sphere(256)
        flat = np.array([0, 0, 1], np.float32)
        last = np.where(inside[..., None], ball, flat)
        stages = np.stack([np.stack([np.broadcast_to(flat, last.shape), last])] * len(crops))
        return stages, np.full(crops.shape[:3], 3, np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with out/labels: six images of two corpora, one of them unreadable, and attributes."""
    here = tmp_path_factory.mktemp("docs")
    random, identity = np.random.default_rng(0), steps.Identity.of(StandIn())
    for corpus in ("celeba", "ffhq"):
        photos = [Photo(corpus, f"{corpus}{i}", str(here / f"{corpus}{i}.png"), POINTS) for i in range(3)]
        for photo in photos:
            images.write_image(photo.path, random.integers(0, 255, (130, 120, 3), dtype=np.uint8))
        if corpus == "ffhq":
            Path(photos[-1].path).write_bytes(b"no picture")
        found = [face for photo in photos for face in steps.decode(photo, faces.Dlib())]
        rows = [steps.to_row(labelled, identity) for labelled in steps.predict(found, StandIn(), 8)]
        with files.atomic_open(here / "out" / "labels" / f"corpus={corpus}" / "part-00000.parquet") as file:
            schema.write(file, rows, {"fingerprint": "stand-in"})
    with files.atomic_open(here / "out" / "labels" / "_attributes" / "corpus=celeba.parquet") as file:
        said = {"image_id": ["celeba0", "celeba1", "celeba2"], "Smiling": [True, False, True]}
        pd.DataFrame(said).to_parquet(file)
    return here


def run(blocks: list[str], folder: Path) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hf")}
    script = "\n".join(blocks)
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def imported(package: str) -> list[str]:
    return [block for block in BLOCKS if re.search(rf"^import {package}$", block, re.M)]


def test_the_page_runs_from_top_to_bottom(folder: Path) -> None:
    optional = [block for package in OPTIONAL for block in imported(package)]
    checks = [
        "assert list(frame['status']).count('ok') == 5 and len(frame) == 6 and len(plain) == 6",
        "assert normals.shape == (len(rows), 256, 256, 3) and masks.shape == normals.shape[:3] and towards > 0.3",
        "assert set(sure['image_id']) <= set(frame['image_id']) and len(people) == 6",
        "assert photograph.shape == (130, 120, 3) and photograph.any(-1).mean() > 0.1",
        "assert len(pasted) == 5",
    ]
    printed = run([*(block for block in BLOCKS if block not in optional), *checks], folder)
    assert all(name in printed for name in schema.COLUMNS)
    made = {path.parent.name for path in (folder / "out").rglob("*") if path.is_file()}
    assert (folder / "out" / "labels" / "_index.parquet").exists()
    assert {"pasted", "dataset"} <= {path.name for path in (folder / "out").iterdir()}
    assert {"celeba", "dataset"} <= made


@pytest.mark.parametrize("package", OPTIONAL)
def test_other_tools_read_the_same_files_unaided(package: str, folder: Path) -> None:
    pytest.importorskip(package, reason=f"the package {package} is not installed")
    (block,) = imported(package)
    printed = run([block], folder)
    assert {"duckdb": "celeba", "datasets": "(256, 256)"}[package] in printed
