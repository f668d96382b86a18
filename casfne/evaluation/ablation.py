"""Ablations: which variants of the cascade are trained, and tables of them in the shape of the paper's I and IV."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from casfne.errors import InputError
from casfne.evaluation import reported
from casfne.evaluation.leaderboard import cells_of, markdown_table, tabular
from casfne.evaluation.protocol import PROTOCOL
from casfne.files import write_text
from casfne.images import SIZE
from casfne.model.cascade import Cascade, CascadeConfig
from casfne.model.devices import choose_device, choose_precision
from casfne.model.predictor import CascadePredictor
from casfne.model.size import describe
from casfne.model.timing import machine, medians

Result = Mapping[str, Any]
"""Of one training: variant, seed, profile, machine and what `evaluate` measured (its ``metrics``)."""

_COUNTED = ["mean_deg", "std_deg", "low_deg", "high_deg", "below_20_deg", "below_25_deg", "below_30_deg"]
_TRIVIAL = {"constant": "(0, 0, 1)", "mean_map": "mean map"}  # what needs no network


@dataclass(frozen=True)
class Variant:
    """One training: refinements T, the fusion, which terms its loss has besides reconstruction; and the names of its
    rows in the paper's Tables I and IV."""

    table1: str
    table4: str = ""
    refinements: int = 2
    fusion: str = "cat"
    adversarial: bool = True
    variation: bool = True


VARIANTS = {
    "rec": Variant("Rec", adversarial=False, variation=False),
    "rec_adv": Variant("Rec+adv", variation=False),
    "rec_tv": Variant("Rec+tv", adversarial=False),
    "adain": Variant("AdaIN", "AdaIN", fusion="adain"),
    "fmm": Variant("FMM", "FMM", fusion="fmm"),
    "t0": Variant("t=0", "t=1", refinements=0),  # Table IV counts predictions
    "t1": Variant("t=1", "t=2/Cas-FNE", refinements=1),
    "t2": Variant("t=2/Cas-FNE", "t=3"),
    "t3": Variant("t=3", "t=4", refinements=3),
    "t4": Variant("t=4", "t=5", refinements=4),
    "t5": Variant("t=5", "t=6", refinements=5),
}


@dataclass(frozen=True)
class Table:
    """A table with its numbers, for further use, and its cells as text, to be read."""

    title: str
    about: str
    numbers: pd.DataFrame
    cells: pd.DataFrame

    def write(self, stem: Path) -> None:
        """``stem``.csv, .md and .tex (for booktabs), each whole or not at all."""
        lines = [f"# {self.title}", "", self.about, "", *markdown_table(self.cells), ""]
        write_text(stem.with_suffix(".csv"), self.numbers.to_csv(index=False))
        write_text(stem.with_suffix(".md"), "\n".join(lines))
        write_text(stem.with_suffix(".tex"), f"% {self.title}. {self.about}\n{tabular(self.cells)}")


def errors_table(results: Sequence[Result]) -> Table:
    """Table I: the last stage's angular error of each variant, on the test people, and what the paper reports.

    Of several seeds every number is the mean; the means of each are listed. Raises InputError: a variant lacks a seed
    that another has, or the results are not of one protocol, profile and set of images.
    """
    first = _alike(results)
    seeds = sorted({result["seed"] for result in results})
    of = {(result["variant"], result["seed"]): result["by_pixel"] for result in results}
    rows = [_error_row(first["by_pixel"][name], name, title, {}) for name, title in _TRIVIAL.items()]
    for name, variant in VARIANTS.items():
        if lacking := [seed for seed in seeds if (name, seed) not in of]:
            raise InputError(f"ablation: no result of {name} with seed {lacking[0]}")
        by_seed = {seed: of[name, seed][f"t{variant.refinements}"] for seed in seeds}
        rows.append(_error_row(_mean(list(by_seed.values())), name, variant.table1, by_seed))
    facts: dict[str, Any] = {key: first[key] for key in ("profile", "images", "people", "protocol_sha256", "machine")}
    numbers = _beside(pd.DataFrame(rows), reported.errors("I")).assign(**facts)
    about = (
        f"Measured: {first['images']} images of {first['people']} people that no training saw, by pixel, "
        f"protocol {PROTOCOL.version} `{PROTOCOL.sha256[:12]}`; profile {first['profile']}, "
        f"seed {' and '.join(map(str, seeds))}; trained on {first['machine']}. "
        "95 %: of the mean, other people drawn. Reported: the paper's Table I, on Photoface."
    )
    return Table("Ablations, in the shape of Table I", about, numbers, _error_cells(numbers, seeds))


def _alike(results: Sequence[Result]) -> Result:
    for key, what in (("protocol_sha256", "protocol"), ("profile", "profile"), ("pixels", "images")):
        if len({result[key] for result in results}) > 1:
            raise InputError(f"ablation: results of more than one {what}; run `dvc repro ablation` again")
    if results[0]["protocol_sha256"] != PROTOCOL.sha256:
        raise InputError("ablation: measured by another protocol; run `dvc repro ablation` again")
    return results[0]


def _mean(numbers: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Of each number; NaN where it is not known."""
    return {key: float(np.mean([np.nan if one[key] is None else one[key] for one in numbers])) for key in _COUNTED}


def _error_row(
    numbers: Mapping[str, Any], variant: str, name: str, by_seed: Mapping[int, Mapping[str, Any]]
) -> dict[str, Any]:
    means = {f"mean_deg_seed_{seed}": found["mean_deg"] for seed, found in by_seed.items()}
    return {"kind": "measured", "variant": variant, "name": name} | {key: numbers[key] for key in _COUNTED} | means


def _beside(measured: pd.DataFrame, theirs: pd.DataFrame) -> pd.DataFrame:
    """Measured rows with the reported ones of the same name beside them, as columns reported_..."""
    theirs = theirs.drop(columns=["kind", "source"]).set_index("name").add_prefix("reported_")
    return measured.join(theirs, on="name")


def _error_cells(numbers: pd.DataFrame, seeds: Sequence[int]) -> pd.DataFrame:
    """Exp., mean ± std, shares; the interval; the seeds' means; and the paper's."""
    shown = ["kind", "name", "mean_deg", "std_deg", *_COUNTED[4:]]
    cells = cells_of(numbers[shown]).rename(columns={"method": "Exp."})
    limits = zip(numbers["low_deg"].astype(float), numbers["high_deg"].astype(float), strict=True)
    cells["95 %"] = ["" if low != low else f"{low:.2f} to {high:.2f}" for low, high in limits]
    for seed in seeds if len(seeds) > 1 else ():
        cells[f"seed {seed}"] = [_text(value, ".2f") for value in numbers[f"mean_deg_seed_{seed}"]]
    theirs = cells_of(reported.errors("I")).set_index("method").add_prefix("reported ")
    return cells.join(theirs, on="Exp.").fillna("")


def costs_table(rounds: int, device: str = "auto") -> Table:
    """Table IV: exact multiply-adds and parameters of one 256x256 face by network, and its time on this machine.

    The networks are of the published width, 32, whatever the trainings have; time does not depend on the weights.
    """
    networks = {v: CascadeConfig(refinements=v.refinements, fusion=v.fusion) for v in VARIANTS.values() if v.table4}
    place = choose_device(device)
    precision = choose_precision("auto", place)
    taken = milliseconds({v.table4: config for v, config in networks.items()}, rounds, device)
    rows = [_cost_row(v, config) | {"milliseconds": taken[v.table4]} for v, config in networks.items()]
    threads = torch.get_num_threads()
    facts: dict[str, Any] = {"precision": precision, "threads": threads, "rounds": rounds, "machine": machine()}
    numbers = _beside(pd.DataFrame(rows), reported.costs()).assign(**facts)
    about = (
        f"Measured: F = 32, one {SIZE}x{SIZE} face at a time, from its pixels to its normals, {precision} on {place}, "
        f"threads: {threads}, median of {rounds} in turns; {machine()}. t counts predictions, T refinements; AdaIN and "
        "FMM as they are trained. Reported: the paper's Table IV, which counts operations and parameters in another "
        "way (docs/leaderboard.md), on its authors' GPU."
    )
    return Table("Costs, in the shape of Table IV", about, numbers, _cost_cells(numbers))


def milliseconds(networks: Mapping[str, CascadeConfig], rounds: int, device: str = "auto") -> dict[str, float]:
    """Of one crop through each network, as the predictor runs it: the median of ``rounds``, taken in turns."""
    place = choose_device(device)
    crop = np.random.default_rng(0).integers(0, 256, (1, SIZE, SIZE, 3), np.uint8)
    tasks = {}
    for name, config in networks.items():
        predictor = CascadePredictor(Cascade(config).eval(), name, "", {}, place, choose_precision("auto", place))
        tasks[name] = functools.partial(predictor.predict_stages, crop)
    return {name: 1000 * seconds for name, seconds in medians(tasks, rounds).items()}


def _cost_row(variant: Variant, config: CascadeConfig) -> dict[str, Any]:
    size = describe(config, variant.refinements)[-1]
    return {
        "kind": "measured",
        "name": variant.table4,
        "refinements": size.refinements,
        "fusion": variant.fusion,
        "multiply_adds": size.multiply_adds,
        "parameters": size.parameters,
        "parameters_counted_twice": size.parameters_counted_twice,
    }


def _cost_cells(numbers: pd.DataFrame) -> pd.DataFrame:
    columns = {
        "Exp.": (numbers["name"], ""),
        "T": (numbers["refinements"], "d"),
        "multiply-adds": (numbers["multiply_adds"], ",d"),
        "parameters": (numbers["parameters"], ",d"),
        "counted twice": (numbers["parameters_counted_twice"] / 1e6, ".1f|M"),
        "time": (numbers["milliseconds"], ".1f|ms"),
        "reported FLOPs": (numbers["reported_giga_operations"], "g|G"),
        "reported parameters": (numbers["reported_million_parameters"], "g|M"),
        "reported time": (numbers["reported_milliseconds"], "g|ms"),
    }
    return pd.DataFrame({head: [_text(v, *form.split("|")) for v in of] for head, (of, form) in columns.items()})


def _text(value: Any, form: str, unit: str = "") -> str:
    """A cell; empty where there is nothing."""
    return "" if pd.isna(value) else f"{value:{form}} {unit}".rstrip()
