"""Stage ablation: the variants' results -> data/ablation/table1 and table4, as .md, .csv and .tex; their errors."""

import json
from pathlib import Path
from typing import Any

from casfne import config
from casfne.errors import InputError, guard
from casfne.evaluation.ablation import VARIANTS, costs_table, errors_table
from casfne.files import write_text

RESULTS, OUT, METRICS = Path("data/ablation/results"), Path("data/ablation"), Path("data/metrics/ablation.json")


@guard
def main() -> None:
    """Gather what stage `ablate` measured, and take the networks' times."""
    seeds = config.load("params.yaml", "ablate").seeds
    results = [read(RESULTS / f"{variant}-{seed}.json") for variant in VARIANTS for seed in seeds]
    errors, costs = errors_table(results), costs_table(config.load("params.yaml", "ablation").rounds)
    errors.write(OUT / "table1")
    costs.write(OUT / "table4")
    means = errors.numbers.set_index("variant")[["mean_deg", "std_deg"]]
    write_text(METRICS, json.dumps(means.to_dict("index"), indent=1) + "\n")
    for name in ("table1", "table4"):
        print((OUT / f"{name}.md").read_text())


def read(path: Path) -> dict[str, Any]:
    """A result; InputError where it is missing or damaged."""
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: no result of `ablate` ({error})") from None


if __name__ == "__main__":
    main()
