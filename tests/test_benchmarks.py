"""The benchmarks: one that fails costs the others nothing, every setting can begin, nothing stale is measured."""

import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import torch
from conftest import ROOT

from benchmarks import Result, evaluation, inference, training
from benchmarks.__main__ import measure
from benchmarks.real_faces import probe
from benchmarks.real_faces.probe import CHUNK, Stored, write_chunks
from casfne.capture.optics.framing import training_crop
from casfne.capture.parallel import Order
from casfne.capture.portraits import Setting
from casfne.training.loop import start


def test_results_are_kept_whatever_fails_after_them(tmp_path, monkeypatch):
    latest = tmp_path / "latest.json"

    def fail():
        assert "one" in json.loads(latest.read_text())
        raise TypeError("no such field")

    of = {
        "first": lambda: [Result("one", 1.0, "s", "")],
        "second": fail,
        "third": lambda: [Result("two", 2.0, "s", "")],
    }
    for name, run in of.items():
        monkeypatch.setitem(sys.modules, f"benchmarks.{name}", SimpleNamespace(run=run))
    results, failed = measure(list(of), latest)
    assert [result.name for result in results] == ["one", "two"] == list(json.loads(latest.read_text()))
    assert failed == ["second"]


def test_the_training_that_is_timed_begins_without_a_network(monkeypatch):
    monkeypatch.chdir(ROOT)
    settings = training.paper()
    assert settings.chosen.start == "random"
    state = start(settings, torch.device("cpu"))
    assert state.network.config.width == 32 and state.network.config.encoder == "resnet18"


def test_portraits_of_other_settings_are_not_taken_up(tmp_path, monkeypatch):
    asked = []

    def rendered(order):
        asked.append(order)
        size = order.setting.framing.height
        maps = {name: torch.zeros(order.count, 3, size, size) for name in ("image", "normal")}
        classes = torch.full((order.count, 1, size, size), order.seed % 2)
        return iter([SimpleNamespace(**maps, classes=classes)])

    monkeypatch.setattr(probe, "rendered", rendered)
    monkeypatch.setattr(probe.Portraits, "join", lambda parts: parts[0])
    head = tmp_path / "head.npz"
    head.write_bytes(b"one")
    first = Order([str(head)], 11, CHUNK, Setting(training_crop(32)))
    others = [{"seed": 12}, {"without": ("hair",)}, {"supersample": 1}, {"setting": Setting(training_crop(64))}]
    folders = [write_chunks(tmp_path, order) for order in (first, *(replace(first, **o) for o in others), first)]
    head.write_bytes(b"another")
    folders.append(write_chunks(tmp_path, first))
    monkeypatch.setattr(probe, "code_version", lambda *_: "of tomorrow")
    folders.append(write_chunks(tmp_path, first))
    assert folders[0] == folders[5] and len(set(folders)) == 7 == len(asked)
    assert Stored(folders[4], CHUNK).image.shape[-1] == 64 and Stored(folders[0], CHUNK).image.shape[-1] == 32


def test_memory_is_counted_from_nothing():
    """What benchmarks before it have held would hide what it takes."""
    held = np.ones(40_000_000)  # 320 MB
    del held
    assert evaluation.alone(evaluation.memory_mb) < evaluation.memory_mb() - 200


def test_engines_whose_normals_are_not_finite_are_marked():
    *_, sound, broken = inference.markdown([("one", 2.0, 0.0), ("two", 1.0, float("nan"))]).splitlines()
    assert sound == "| one | 4.0 | 1.00 | 0.000° |" and broken == "| two | not finite | | |"
