"""Losses against closed forms, augmentation, resuming, learning."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT

from casfne import config
from casfne.corpora.samples import read_sample, write_archive
from casfne.normals import angle_deg, sphere
from casfne.training.calibrate import calibration_people, fit_confidence, fit_line
from casfne.training.dataset import Order, Samples, augment, to_tensors
from casfne.training.loop import start, take_step, train
from casfne.training.losses import adversarial_loss, cosine_loss, discriminator_loss, total_variation


def constant(vector, size=4, batch=1):
    return torch.tensor(vector, dtype=torch.float32).view(1, 3, 1, 1).expand(batch, 3, size, size)


def test_cosine_loss_closed_form():
    truth, weight = constant([0, 0, 1]), torch.ones(1, 1, 4, 4)
    assert cosine_loss([truth], truth, weight) == pytest.approx(0)
    assert cosine_loss([-truth, truth], truth, weight) == pytest.approx(2)
    assert cosine_loss([constant([0, 0.6, 0.8])], truth, weight) == pytest.approx(0.2)


def test_cosine_loss_sees_the_mask_alone():
    truth, weight = constant([0, 0, 1]), torch.zeros(1, 1, 4, 4)
    weight[..., 0] = 1
    wrong_outside = truth.clone()
    wrong_outside[..., 1:] *= -1
    assert cosine_loss([wrong_outside], truth, weight) == pytest.approx(0)
    assert cosine_loss([-truth], truth, torch.zeros(1, 1, 4, 4)) == 0


def test_total_variation_closed_form():
    ramp = torch.zeros(1, 3, 5, 4)
    ramp[0, 0] = torch.arange(4.0)  # rises by 1 a column, by 1/2 in N / 2 + 0.5
    assert total_variation([ramp]) == pytest.approx(5 * 3 * 0.5 / 20)
    assert total_variation([ramp, ramp.transpose(2, 3)]) == pytest.approx(2 * 5 * 3 * 0.5 / 20)
    assert total_variation([constant([0, 0, 1])]) == 0


def test_adversarial_terms_closed_form():
    class Says(torch.nn.Module):
        def forward(self, normals):
            return normals[:, :1] * 2  # a logit of 2 where x is 1

    real, fake = constant([1, 0, 0]), constant([-1, 0, 0])
    softplus = lambda v: float(np.log1p(np.exp(v)))  # noqa: E731
    assert adversarial_loss(Says(), [fake, real]) == pytest.approx(softplus(2) + softplus(-2))
    assert discriminator_loss(Says(), [fake, fake], real) == pytest.approx(softplus(-2), rel=1e-5)


def test_the_discriminators_loss_spares_the_generator():
    fake = constant([0, 0, 1]).clone().requires_grad_()
    net = torch.nn.Conv2d(3, 1, 1)
    discriminator_loss(net, [fake], constant([0, 0, 1])).backward()
    assert fake.grad is None and net.weight.grad is not None


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """Six captures of a sphere under one light each: what a network can learn in a few steps."""
    root = tmp_path_factory.mktemp("samples")
    n, mask = sphere(256)
    rows = []
    for i in range(6):
        light = np.array([0.5 - 0.2 * i, 0.3, 0.8])
        image = np.repeat((np.clip(n @ light, 0, 1) * 255 * mask).astype(np.uint8)[..., None], 3, -1)
        write_archive(
            root / f"{i}.npz", image[None], {"normal": n, "mask": mask, "trust": mask * 0.5, "albedo": mask * 1.0}
        )
        rows.append(
            {"sample_id": f"{i}_im0", "archive": f"{i}.npz", "light": 0, "subject": f"{i:04d}", "source": "sphere"}
        )
    return root, pd.DataFrame(rows)


def test_a_mirrored_sample_stays_true(samples):
    root, rows = samples
    sample = read_sample(root, rows["archive"][0], 0)
    n, mask = sphere(256)
    mirrored = 0
    for seed in range(8):
        again = augment(sample, np.random.default_rng(seed))
        assert angle_deg(again.normal, n)[mask].max() < 0.1  # a sphere mirrored is a sphere
        brighter_left = again.image[..., 0][:, :128].mean() > again.image[..., 0][:, 128:].mean()
        mirrored += brighter_left
    assert 0 < mirrored < 8


def test_tensors_keep_the_frame(samples):
    root, rows = samples
    batch = to_tensors(read_sample(root, rows["archive"][0], 0), 64)
    assert batch["image"].shape == (3, 64, 64) and batch["mask"].shape == (1, 64, 64)
    inside = batch["mask"][0] > 0
    assert torch.allclose(batch["normal"].norm(dim=0)[inside], torch.tensor(1.0), atol=1e-4)
    assert batch["normal"][1, 4, 32] > 0.7  # top of the picture: y > 0
    assert float(batch["trust"][0, 32, 32]) == pytest.approx(0.5, abs=0.01)


def test_order_depends_on_seed_and_step_alone():
    schedule = (config.Step(64, 4, 3, 1e-3), config.Step(128, 2, 2, 1e-3))
    whole = list(Order(10, schedule, seed=1))
    assert len(whole) == 5 == len(Order(10, schedule, seed=1))
    assert list(Order(10, schedule, seed=1, start=2)) == whole[2:]
    assert list(Order(10, schedule, seed=2)) != whole
    assert [len(b) for b in whole] == [4, 4, 4, 2, 2] and whole[3][0][1] == 128


def small(steps, **changes):
    settings = config.load(ROOT / "params.yaml", "train")
    profile = config.Profile(4, "random", (config.Step(64, 4, steps, 2e-3),))
    return dataclasses.replace(
        settings, profiles={"demo": profile}, refinements=1, precision="fp32", device="cpu", **changes
    )


def test_training_learns_a_sphere(samples, tmp_path):
    root, rows = samples
    losses = []
    train(small(30), root, rows, tmp_path / "c.pt", "a", lambda _, numbers: losses.append(numbers["rec"]))
    assert len(losses) == 30 and np.mean(losses[-5:]) < 0.4 * np.mean(losses[:3])


def test_resuming_after_a_kill_changes_nothing(samples, tmp_path):
    root, rows = samples
    settings = small(6, checkpoint_every=2)

    class Killed(Exception):
        pass

    def kill_at_5(step, _):
        if step == 5:
            raise Killed

    whole = train(settings, root, rows, tmp_path / "whole.pt", "a", lambda *_: None)
    with pytest.raises(Killed):
        train(settings, root, rows, tmp_path / "cut.pt", "a", kill_at_5)
    steps = []
    resumed = train(settings, root, rows, tmp_path / "cut.pt", "a", lambda step, _: steps.append(step))
    assert steps == [5, 6]
    for (name, a), b in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_a_stale_checkpoint_is_not_taken_up(samples, tmp_path):
    root, rows = samples
    train(small(2, checkpoint_every=1), root, rows, tmp_path / "c.pt", "old settings", lambda *_: None)
    steps = []
    train(small(2, checkpoint_every=1), root, rows, tmp_path / "c.pt", "new settings", lambda s, _: steps.append(s))
    assert steps == [1, 2]
    (tmp_path / "c.pt").write_bytes(b"cut")
    train(small(1), root, rows, tmp_path / "c.pt", "new settings", lambda s, _: steps.append(s))
    assert steps == [1, 2, 1]


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
    take_step(state, batch, small(1))
    assert len(seen) == 1 + 2 * 2  # the truth once, both stages for each of the two players
    assert all(not (normals * (1 - mask)).any() and (normals * mask).any() for normals in seen)


def test_a_loss_that_is_not_finite_stops_the_training(samples, tmp_path):
    root, rows = samples
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        train(small(3, weight_rec=float("nan")), root, rows, tmp_path / "c.pt", "a", lambda *_: None)


def test_calibration_people_are_kept_out(samples):
    rows = pd.DataFrame({"subject": [f"{i // 2:04d}" for i in range(40)], "light": 0})
    held, used = calibration_people(rows)
    assert set(held["subject"]) == {"0000", "0010"} and not set(held["subject"]) & set(used["subject"])
    assert len(held) + len(used) == 40
    assert calibration_people(samples[1])[0].empty  # too few people to spare one


def test_the_calibration_line():
    assert fit_line(np.array([1.0, 2, 3]), np.array([5.0, 7, 9])) == pytest.approx([3, 2])
    assert fit_line(np.array([1.0, 2, 3]), np.array([9.0, 7, 5])) == pytest.approx([7, 0])
    assert fit_line(np.array([1.0]), np.array([4.0])) == [4, 0]


def test_confidence_of_a_network_without_refinements_is_its_mean_error(samples):
    from casfne.model.cascade import Cascade, CascadeConfig

    root, rows = samples
    base, slope = fit_confidence(Cascade(CascadeConfig(4, 0)).eval(), root, rows.head(3))
    assert slope == 0 and 0 < base < 180
    assert fit_confidence(Cascade(CascadeConfig(4, 0)).eval(), root, rows.head(0)) is None


def test_samples_read_only_what_is_asked(samples):
    root, rows = samples
    assert len(Samples(root, rows)) == 6
    plain = Samples(root, rows)[(0, 256, None)]
    assert (plain["image"][0] * 255).round().max() <= 255
    with pytest.raises(ValueError, match="not a sample archive with light 3"):
        read_sample(root, rows["archive"][0], 3)
