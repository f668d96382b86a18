"""The training loop: the cascade against its discriminator, resumable to the step."""

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from casfne.config import Train
from casfne.images import atomic_open
from casfne.model.cascade import Cascade, CascadeConfig, build
from casfne.model.discriminator import Discriminator
from casfne.model.predictor import autocast, choose_device, choose_precision
from casfne.training.dataset import Batch, Order, Samples, loader
from casfne.training.losses import adversarial_loss, cosine_loss, discriminator_loss, total_variation

Report = Callable[[int, dict[str, float]], None]


@dataclass
class State:
    """All that a step changes: both networks, both optimisers, how many steps were taken."""

    network: Cascade
    discriminator: Discriminator
    optimiser: torch.optim.Optimizer
    optimiser_d: torch.optim.Optimizer
    step: int = 0

    def save(self, path: Path, made_by: str) -> None:
        """Write a checkpoint that carries ``made_by``, whole or not at all."""
        parts = {name: getattr(self, name).state_dict() for name in _PARTS}
        with atomic_open(path) as file:
            torch.save({"made_by": made_by, "step": self.step, **parts}, file)

    def resume(self, path: Path, made_by: str) -> None:
        """Take up a checkpoint, if there is one and ``made_by`` made it."""
        saved = read_checkpoint(path, made_by)
        if saved is not None:
            for name in _PARTS:
                getattr(self, name).load_state_dict(saved[name])
            self.step = saved["step"]


_PARTS = ("network", "discriminator", "optimiser", "optimiser_d")


def read_checkpoint(path: Path, made_by: str) -> dict[str, Any] | None:
    """A checkpoint's content; None where there is none, it is damaged, or something else made it."""
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
        return None
    return saved if saved.get("made_by") == made_by else None


def start(config: Train, device: torch.device) -> State:
    """Fresh networks and optimisers, from the seed; Adam as released (weight decay 5e-5 and 5e-4)."""
    torch.manual_seed(config.seed)
    profile = config.chosen
    normalisation = "none" if profile.encoder == "random" else "imagenet"
    network = build(CascadeConfig(profile.width, config.refinements, normalisation), profile.encoder)
    network = network.to(device).to(memory_format=torch.channels_last)
    discriminator = Discriminator().to(device)
    return State(
        network,
        discriminator,
        torch.optim.Adam(network.parameters(), weight_decay=5e-5),
        torch.optim.Adam(discriminator.parameters(), weight_decay=5e-4),
    )


def train(
    config: Train,
    root: Path | str,
    rows: pd.DataFrame,
    checkpoint: Path,
    made_by: str,
    report: Report,
) -> Cascade:
    """Train on ``rows`` of the sample index under ``root``; the trained network, in evaluation mode.

    ``checkpoint`` is written every ``config.checkpoint_every`` steps and taken up when ``made_by`` (a
    fingerprint of all that decides the result) is the same. ``report`` gets the step and its losses.
    """
    device = choose_device(config.device)
    precision = choose_precision(config.precision, device)
    state = start(config, device)
    state.resume(checkpoint, made_by)
    order = Order(len(rows), config.chosen.schedule, config.seed, state.step)
    rates = [part.learning_rate for part in config.chosen.schedule for _ in range(part.steps)]
    state.network.train()
    for batch in loader(Samples(root, rows), order, config.workers):
        on_device = {k: v.to(device, non_blocking=True) for k, v in batch.items()}
        set_learning_rate(state, rates[state.step])
        with autocast(device, precision):
            losses = take_step(state, on_device, config)
        state.step += 1
        if state.step % config.checkpoint_every == 0 or state.step == order.start + len(order):
            state.save(checkpoint, made_by)
        report(state.step, losses)
    return state.network.eval()


def set_learning_rate(state: State, rate: float) -> None:
    """Give both optimisers the rate that the schedule says."""
    for group in state.optimiser.param_groups + state.optimiser_d.param_groups:
        group["lr"] = rate


def take_step(state: State, batch: Batch, config: Train) -> dict[str, float]:
    """One step of both optimisers (eq. 8); the losses as numbers. FloatingPointError when one is not finite."""
    weight = batch["mask"] * batch["trust"] if config.trust_weighting else batch["mask"]
    stages = state.network(batch["image"])
    losses = {"rec": cosine_loss(stages, batch["normal"], weight), "tv": total_variation(stages)}
    if config.weight_adv > 0:
        # truth is zero off the mask: predictions there would give themselves away
        faces, truth = [n * batch["mask"] for n in stages], batch["normal"] * batch["mask"]
        losses["discriminator"] = _train_discriminator(state, faces, truth)
        state.discriminator.requires_grad_(False)  # the generator's step needs no gradient of its weights
        losses["adv"] = adversarial_loss(state.discriminator, faces)
        state.discriminator.requires_grad_(True)
    weights = {"rec": config.weight_rec, "tv": config.weight_tv, "adv": config.weight_adv}
    total = torch.stack([weights[k] * v for k, v in losses.items() if k in weights]).sum()
    if not torch.isfinite(total):
        raise FloatingPointError(f"step {state.step}: the loss is {total.item()}; lower the learning rate")
    _descend(state.optimiser, state.network, total)
    return {"loss": total.item(), **{k: v.item() for k, v in losses.items()}}


def _train_discriminator(state: State, stages: list[Tensor], target: Tensor) -> Tensor:
    loss = discriminator_loss(state.discriminator, stages, target)
    _descend(state.optimiser_d, state.discriminator, loss)
    return loss.detach()


def _descend(optimiser: torch.optim.Optimizer, network: nn.Module, loss: Tensor) -> None:
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()


def about(config: Train, made_by: str, rows: pd.DataFrame) -> dict[str, Any]:
    """What the weights' metadata says of their origin."""
    return {
        "made_by": made_by,
        "profile": config.profile,
        "encoder": config.chosen.encoder,
        "seed": config.seed,
        "images": len(rows),
        "people": int(rows["subject"].nunique()),
        "sources": sorted(set(rows["source"])),
    }
