"""The training loop: the cascade against its discriminator, resumable to the step."""

import copy
import math
import pickle
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from casfne.config import Step, Train
from casfne.errors import InputError
from casfne.files import atomic_open
from casfne.model.cascade import Cascade, CascadeConfig, build
from casfne.model.checkpoints import load_weights
from casfne.model.devices import autocast, choose_device, choose_precision
from casfne.model.discriminator import Discriminator
from casfne.model.encoders import state_dict_file
from casfne.model.releases import RELEASES, weights_file
from casfne.training.augment import augment, resize_batch
from casfne.training.dataset import Batch, Order, Source, loader, unpack
from casfne.training.losses import RECONSTRUCTION, TOTAL_VARIATION, adversarial_loss, discriminator_loss
from casfne.training.parallel import average_gradients, mean_over_processes, rank_and_world, share_batch_norms

Report = Callable[[int, dict[str, float]], None]
Forward = Callable[[Tensor], list[Tensor]]
FIRST_STEPS = 10  # an average over 1 / (1 - decay) steps would remember the random start for too long: see `_average`


@dataclass
class State:
    """All that a step changes: both networks, both optimisers, the average of the weights, the steps taken."""

    network: Cascade
    discriminator: Discriminator
    optimiser: torch.optim.Optimizer
    optimiser_d: torch.optim.Optimizer
    average: Cascade
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


_PARTS = ("network", "discriminator", "optimiser", "optimiser_d", "average")


@dataclass(frozen=True)
class Trained:
    """The network, in evaluation mode, and how the time went: steps/s, and the share of it spent waiting for data.

    The share is of this process's clock. On a GPU, which works on while the process waits, it is an upper limit of
    the time for which the GPU stood idle. Both are NaN when no step was left to take.
    """

    network: Cascade
    steps_per_s: float
    waiting_share: float


def read_checkpoint(path: Path, made_by: str) -> dict[str, Any] | None:
    """A checkpoint's content; None where there is none, it is damaged, or something else made it."""
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
        return None
    return saved if saved.get("made_by") == made_by else None


def start(config: Train, device: torch.device) -> State:
    """Fresh networks and optimisers, from the seed; Adam, the discriminator's weight decay as released (5e-4)."""
    torch.manual_seed(config.seed)
    profile = config.chosen
    cascade = CascadeConfig(
        profile.width,
        config.refinements,
        profile.normalisation,
        config.fusion,
        profile.encoder,
        profile.residual,
        profile.symmetric,
    )
    network = begin(cascade, profile.start).to(device).to(memory_format=torch.channels_last)
    share_batch_norms(network)
    discriminator = Discriminator().to(device).to(memory_format=torch.channels_last)
    return State(
        network,
        discriminator,
        torch.optim.Adam(network.parameters(), weight_decay=profile.weight_decay),
        torch.optim.Adam(discriminator.parameters(), weight_decay=5e-4),
        copy.deepcopy(network).requires_grad_(False),
    )


def begin(config: CascadeConfig, start: str) -> Cascade:
    """A cascade to train: E_f from ``start`` as `casfne.model.cascade.build` has it, or all of it from weights of ours,
    a release's name or a .safetensors file. InputError where they are of another network."""
    if not is_ours(start):
        return build(config, start)
    network, _ = load_weights(start)
    if network.config != config:
        raise InputError(f"{start}: {network.config}; the profile's network is {config}")
    return network


def is_ours(start: str) -> bool:
    """Whether ``start`` means a whole network's weights of ours."""
    return start in RELEASES or start.endswith(".safetensors")


def start_file(start: str) -> Path | None:
    """The file that ``start`` means; None for what a library has (random, imagenet). InputError: it is not there."""
    if start in ("random", "imagenet"):
        return None
    return weights_file(start) if is_ours(start) else state_dict_file(start)


def train(
    config: Train,
    source: Source,
    checkpoint: Path,
    made_by: str,
    report: Report,
) -> Trained:
    """Train on the images of ``source``.

    ``checkpoint`` is written every ``config.checkpoint_every`` steps and taken up when ``made_by`` (a
    fingerprint of all that decides the result) is the same. ``report`` gets every ``config.log_every``-th step,
    and the last, with its losses. Under `torch.distributed` this is one of several processes, which share each
    batch; the first of them writes and reports. FloatingPointError when a loss is not finite.
    """
    device = choose_device(config.device)
    precision = choose_precision(config.precision, device)
    state = start(config, device)
    state.resume(checkpoint, made_by)
    rank, world = rank_and_world()
    parts = [(part, i) for part in config.chosen.schedule for i in range(part.steps)]
    order = Order(len(source), config.chosen.schedule, config.seed, state.step, rank, world)
    batches = _Watched(loader(source, order, config.workers))
    forward = torch.compile(state.network) if config.compile else state.network
    state.network.train()
    for stored in batches:
        part, position = parts[state.step]
        set_learning_rate(state, rate_at(part, position))
        batch = prepare(stored, device, part.augment, part.size)
        with autocast(device, precision):
            losses = take_step(state, forward, batch, config)
        state.step += 1
        last = state.step == len(parts)
        if last or state.step % config.log_every == 0 or state.step % config.checkpoint_every == 0:
            numbers = as_numbers(losses, state.step)
            if rank == 0 and (last or state.step % config.log_every == 0):
                report(state.step, numbers)
            if rank == 0 and (last or state.step % config.checkpoint_every == 0):
                state.save(checkpoint, made_by)
    return Trained(state.average.eval(), batches.rate, batches.waiting_share)


class _Watched:
    """Batches, and how long the loop waited for them. The first, which starts the workers, is not counted."""

    def __init__(self, batches: Iterable[Batch]) -> None:
        self.batches, self.waited, self.whole, self.count = batches, 0.0, 0.0, 0

    def __iter__(self) -> Iterator[Batch]:
        iterator = iter(self.batches)
        if (batch := next(iterator, None)) is None:
            return
        began = time.perf_counter()
        while batch is not None:
            self.count += 1
            yield batch
            asked = time.perf_counter()
            batch = next(iterator, None)
            self.waited += time.perf_counter() - asked
            self.whole = time.perf_counter() - began

    @property
    def rate(self) -> float:
        """Batches a second; NaN before the second one."""
        return self.count / self.whole if self.whole else math.nan

    @property
    def waiting_share(self) -> float:
        """Of the time, spent waiting for batches; NaN before the second one."""
        return self.waited / self.whole if self.whole else math.nan


def prepare(stored: Batch, device: torch.device, kinds: Sequence[str], size: int) -> Batch:
    """A stored batch on ``device``, augmented by ``kinds``, at ``size`` pixels."""
    return resize_batch(augment(unpack(stored, device), stored["seed"], kinds), size)


def rate_at(part: Step, position: int) -> float:
    """Learning rate of step ``position`` of a part: half a cosine from its first rate to its last."""
    fallen = (1 - math.cos(math.pi * position / part.steps)) / 2
    return part.learning_rate + (part.end_rate - part.learning_rate) * fallen


def set_learning_rate(state: State, rate: float) -> None:
    """Give both optimisers the rate that the schedule says."""
    for group in state.optimiser.param_groups + state.optimiser_d.param_groups:
        group["lr"] = rate


def take_step(state: State, forward: Forward, batch: Batch, config: Train) -> dict[str, Tensor]:
    """One step of both optimisers (eq. 8) and of the average; the losses, which wait for no device.

    ``forward`` is the state's network, or its compiled form.
    """
    weight = pixel_weights(batch, config)
    truth = batch["normal"] * batch["mask"]
    stages = forward(batch["image"])
    total = mean_over_processes(weight.sum())
    losses = {
        "rec": RECONSTRUCTION[config.reconstruction](stages, truth, weight, total),
        "tv": TOTAL_VARIATION[config.variation](stages),
    }
    if config.weight_adv > 0:
        # truth is zero off the mask: predictions there would give themselves away
        faces = [n * batch["mask"] for n in stages]
        losses["discriminator"] = _train_discriminator(state, faces, truth)
        state.discriminator.requires_grad_(False)  # the generator's step needs no gradient of its weights
        losses["adv"] = adversarial_loss(state.discriminator, faces)
        state.discriminator.requires_grad_(True)
    weights = {"rec": config.weight_rec, "tv": config.weight_tv, "adv": config.weight_adv}
    whole = torch.stack([weights[k] * v for k, v in losses.items() if k in weights]).sum()
    _descend(state.optimiser, state.network, whole, config.chosen.clip_norm)
    _average(state, config.chosen.ema)
    return {"loss": whole.detach(), **{k: v.detach() for k, v in losses.items()}}


def pixel_weights(batch: Batch, config: Train) -> Tensor:
    """What each pixel counts in the reconstruction term, [B, 1, S, S]."""
    if config.rec_pixels == "all":
        return torch.ones_like(batch["mask"])
    return batch["mask"] * batch["trust"] if config.trust_weighting else batch["mask"]


def as_numbers(losses: dict[str, Tensor], step: int) -> dict[str, float]:
    """Losses as numbers, the mean over all processes; FloatingPointError when one is not finite."""
    values = mean_over_processes(torch.stack(list(losses.values()))).tolist()
    numbers = dict(zip(losses, values, strict=True))
    if not all(math.isfinite(v) for v in values):
        raise FloatingPointError(f"step {step}: losses {numbers}; lower the learning rate")
    return numbers


def _train_discriminator(state: State, stages: list[Tensor], target: Tensor) -> Tensor:
    loss = discriminator_loss(state.discriminator, stages, target)
    _descend(state.optimiser_d, state.discriminator, loss, 0)
    return loss.detach()


def _descend(optimiser: torch.optim.Optimizer, network: nn.Module, loss: Tensor, clip_norm: float) -> None:
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    average_gradients(network)
    if clip_norm > 0:
        nn.utils.clip_grad_norm_(network.parameters(), clip_norm)
    optimiser.step()


@torch.no_grad()
def _average(state: State, decay: float) -> None:
    """The exponential moving average of weights and statistics; early on over fewer steps. Decay 0: the weights."""
    follow = 1 - min(decay, (1 + state.step) / (FIRST_STEPS + state.step))
    old, new = (list(n.state_dict().values()) for n in (state.average, state.network))
    floating = [i for i, value in enumerate(old) if value.is_floating_point()]
    torch._foreach_lerp_([old[i] for i in floating], [new[i] for i in floating], follow)
    for before, now in zip(old, new, strict=True):
        if not before.is_floating_point():
            before.copy_(now)
