"""Training steps: the paper's batch of 8 at 256x256, with and without discriminator and torch.compile.

`python -m benchmarks.training` measures torch.compile too, which takes minutes, and writes benchmarks/training.md.
"""

import dataclasses
import functools
from pathlib import Path

import torch

from benchmarks import Result
from casfne import config
from casfne.files import write_text
from casfne.model.devices import autocast, choose_device, choose_precision
from casfne.model.timing import machine, medians
from casfne.training.augment import KINDS
from casfne.training.dataset import Batch
from casfne.training.loop import prepare, start, take_step

ROUNDS = 3
BATCH = 8
SETTING = f"F = 32, T = 2, 256x256, batch {BATCH}, as the profile paper"


def run() -> list[Result]:
    """Images/s of a whole step, and the share of it that augmentation would take with every kind on."""
    settings = paper()
    tasks = {"step": step(settings), "augment": augmentation(settings)}
    seconds = medians(tasks, ROUNDS)
    precision = choose_precision("auto", choose_device("auto"))
    return [
        Result("train_images_per_s", BATCH / seconds["step"], "images/s", f"a step, {precision}; {SETTING}"),
        Result(
            "augment_share_of_step", seconds["augment"] / seconds["step"], "ratio", "all kinds of augmentation over it"
        ),
    ]


def paper() -> config.Train:
    """The settings of params.yaml under the profile `paper`, from random weights."""
    settings = dataclasses.replace(config.load("params.yaml", "train"), profile="paper")
    profile = dataclasses.replace(settings.chosen, start="random")
    return dataclasses.replace(settings, profiles={"paper": profile})


def stored() -> Batch:
    """A batch as the loader gives it."""
    normal = torch.nn.functional.normalize(torch.randn(BATCH, 3, 256, 256), dim=1).half()
    flat = {
        "mask": torch.ones(BATCH, 1, 256, 256, dtype=torch.bool),
        "trust": torch.full((BATCH, 1, 256, 256), 255).byte(),
    }
    image = torch.randint(256, (BATCH, 3, 256, 256), dtype=torch.uint8)
    return {"image": image, "normal": normal, "seed": torch.arange(BATCH)} | flat


def step(settings: config.Train) -> functools.partial[None]:
    """One optimiser step, from the stored batch on."""
    device = choose_device(settings.device)
    state, batch = start(settings, device), stored()
    forward = torch.compile(state.network) if settings.compile else state.network
    state.network.train()

    def take() -> None:
        ready = prepare(batch, device, settings.chosen.schedule[-1].augment, 256)
        with autocast(device, choose_precision(settings.precision, device)):
            take_step(state, forward, ready, settings)
        if device.type == "cuda":
            torch.cuda.synchronize()

    return functools.partial(take)


def augmentation(settings: config.Train) -> functools.partial[Batch]:
    """Every kind of augmentation of a batch."""
    return functools.partial(prepare, stored(), choose_device(settings.device), KINDS, 256)


def main() -> None:
    """Steps with and without torch.compile and discriminator, as a table."""
    settings = paper()
    changes = {
        "as the profile": {},
        "torch.compile": {"compile": True},
        "no discriminator": {"weight_adv": 0.0},
    }
    tasks = {name: step(dataclasses.replace(settings, **change)) for name, change in changes.items()}
    seconds = medians(tasks, ROUNDS)
    lines = ["| step | images/s | against the first |", "| --- | --- | --- |"]
    first = seconds["as the profile"]
    lines += [f"| {name} | {BATCH / s:.2f} | {first / s:.2f} |" for name, s in seconds.items()]
    text = f"""# Training steps

`python -m benchmarks.training` wrote this on: {machine()}. {SETTING}; taken in turns, medians of {ROUNDS}.

{chr(10).join(lines)}
"""
    write_text(Path(__file__).with_suffix(".md"), text)
    print(text)


if __name__ == "__main__":
    main()
