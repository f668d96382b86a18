"""`make bench`: one that fails costs the others nothing, and every setting can begin."""

import json
import sys
from types import SimpleNamespace

import torch
from conftest import ROOT

from benchmarks import Result, training
from benchmarks.__main__ import measure
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
