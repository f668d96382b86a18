"""Stage prepare: a Photoface tree, simulated or real -> samples of 256x256, their index, a row for every session."""

import json
from pathlib import Path

import pandas as pd
from rich.progress import Progress

from casfne import config
from casfne.corpora import fleet, sessions
from casfne.corpora.photoface import Settings
from casfne.corpora.samples import INDEX, clear, write_index
from casfne.errors import InputError, guard
from casfne.files import write_text

OUT, METRICS = Path("data/samples"), Path("data/metrics/prepare.json")


@guard
def main() -> None:
    """Solve the sessions that are not done; any that cannot be used is named, and too many of them are an error."""
    p: config.Prepare = config.load("params.yaml", "prepare")
    plan = sessions.plan(p.root, OUT, Path(p.root).parent / "truth", Settings(p.shadow, p.saturation, p.light_distance))
    (OUT / INDEX).unlink(missing_ok=True)  # archives are made anew from here on: it must not speak of them
    with Progress() as progress:
        bar = progress.add_task("prepare", total=len(plan.tasks))
        outcomes = fleet.run(
            plan.tasks, workers=p.workers, progress=lambda done, total: progress.update(bar, completed=done)
        )
    table = sessions.write_sessions(OUT, plan, outcomes)
    failed = table[table["status"] != "ok"]
    if len(failed) > p.max_failed_share * len(table) or len(failed) == len(table):
        reasons = failed["folder"].str.cat(failed["reason"], ": ")
        raise InputError(f"{len(failed)} of {len(table)} sessions cannot be used: " + "; ".join(reasons[:5]))
    rows = [row for outcome in outcomes for row in outcome.rows]
    clear(OUT, rows)
    write_index(OUT, rows)
    write_text(METRICS, json.dumps(summarise(table), indent=2) + "\n")


def summarise(table: pd.DataFrame) -> dict[str, object]:
    """Counts, and the errors against the simulated truth where there is one, pooled by pixel."""
    done = table[table["status"] == "ok"]
    counts = {
        "sessions": len(done),
        "people": int(done["subject"].nunique()),
        "images": int(done["images"].sum()),
        "failed_sessions": len(table) - len(done),
        "mean_trust": float(done["mean_trust"].mean()),
    }
    if "stereo_error_deg" not in done:
        return counts
    return counts | {
        "stereo_error_deg": _pooled(done, "stereo_error_deg", "stereo_pixels"),
        "stereo_error_where_trusted_deg": _pooled(done, "trusted_error_deg", "trusted_pixels"),
        "trusted_share": float(done["trusted_pixels"].sum() / done["stereo_pixels"].sum()),
    }


def _pooled(done: pd.DataFrame, error: str, pixels: str) -> float:
    return float((done[error] * done[pixels]).sum() / done[pixels].sum())


if __name__ == "__main__":
    main()
