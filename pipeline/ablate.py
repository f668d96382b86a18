"""Stage ablate: one variant of the cascade and one seed, trained and evaluated -> data/ablation/results/, models/.

`python pipeline/ablate.py VARIANT SEED`. Weights of the same settings, data and code are not trained again.
"""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import casfne
from casfne import config
from casfne.corpora.samples import read_index
from casfne.corpora.split import rows_of
from casfne.errors import InputError, guard
from casfne.evaluation.ablation import VARIANTS, Variant
from casfne.evaluation.evaluate import evaluate
from casfne.files import write_text
from casfne.model.timing import machine
from casfne.training import fleet
from casfne.training import job as jobs
from casfne.training.__main__ import printing
from casfne.training.inputs import job_of

SAMPLES, SPLIT, OUT = Path("data/samples"), Path("data/split.json"), Path("data/ablation")


@guard
def main() -> None:
    """Train, unless that is done, and measure by the protocol on people the training has not seen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("variant", choices=list(VARIANTS))
    parser.add_argument("seed", type=int)
    given = parser.parse_args()
    shared, name = config.load("params.yaml", "ablate"), f"{given.variant}-{given.seed}"
    settings = settings_of(VARIANTS[given.variant], config.load("params.yaml", "train"), shared.profile, given.seed)
    job = job_of(settings, SAMPLES, SPLIT, OUT / "models" / name)
    if not job.done:
        run = fleet.run if settings.replicas > 1 else jobs.run
        run(job, printing)
    facts = {"variant": given.variant, "seed": given.seed, "profile": shared.profile, "machine": machine()}
    result = facts | measured(job, shared.batch)
    write_text(OUT / "results" / f"{name}.json", json.dumps(result, indent=1) + "\n")
    last = result["by_pixel"][f"t{settings.refinements}"]
    print(f"{name}: {last['mean_deg']:.2f} ± {last['std_deg']:.2f} deg")


def settings_of(variant: Variant, train: config.Train, profile: str, seed: int) -> config.Train:
    """What section ``train`` says, with the variant's cascade and loss, in another profile."""
    if not (train.weight_adv and train.weight_tv):
        raise InputError("train.weight_adv and train.weight_tv: 0 leaves an ablation nothing to take away")
    return dataclasses.replace(
        train,
        profile=profile,
        seed=seed,
        refinements=variant.refinements,
        fusion=variant.fusion,
        weight_adv=train.weight_adv * variant.adversarial,
        weight_tv=train.weight_tv * variant.variation,
    )


def measured(job: jobs.Job, batch: int) -> dict[str, Any]:
    """The hash of its weights, and what stage ``evaluate`` would measure of them."""
    index, split = read_index(SAMPLES), json.loads(SPLIT.read_text())
    predictor = casfne.load(job.weights, job.settings.device, "fp32")
    test, train = (rows_of(index, split, part) for part in ("test", "train"))
    return {"weights_sha256": predictor.sha256, **evaluate(predictor, SAMPLES, test, train, batch).metrics}


if __name__ == "__main__":
    main()
