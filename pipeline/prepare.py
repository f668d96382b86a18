"""Stage prepare: a Photoface tree, simulated or real -> samples of 256x256 and their index."""

import json
from pathlib import Path

import pandas as pd
from rich.progress import track

from casfne import config
from casfne.corpora.photoface import prepare_session
from casfne.corpora.samples import write_index
from casfne.errors import InputError, guard
from casfne.files import write_text
from casfne.stereo.captures import find_sessions

OUT, METRICS = Path("data/samples"), Path("data/metrics/prepare.json")


@guard
def main() -> None:
    """Solve every session; any that cannot be used is named, and too many of them are an error."""
    settings = config.load("params.yaml", "prepare")
    root = Path(settings.root)
    sessions = find_sessions(root)
    rows, failures = [], []
    for folder in track(sessions, "prepare"):
        truth = root.parent / "truth" / folder.parent.name / f"{folder.name}.npz"
        try:
            rows += prepare_session(folder, OUT, truth, settings.shadow, settings.saturation)
        except InputError as error:
            failures.append(str(error))
    if len(failures) > settings.max_failed_share * len(sessions):
        raise InputError(f"{len(failures)} of {len(sessions)} sessions cannot be used: " + "; ".join(failures[:5]))
    write_index(OUT, rows)
    write_text(METRICS, json.dumps(summarise(pd.DataFrame(rows), failures), indent=2) + "\n")


def summarise(rows: pd.DataFrame, failures: list[str]) -> dict[str, object]:
    """Counts, and the errors against the simulated truth where there is one, pooled by pixel."""
    sessions = rows.drop_duplicates("archive")
    counts = {
        "sessions": len(sessions),
        "people": int(sessions["subject"].nunique()),
        "images": len(rows),
        "failed_sessions": len(failures),
        "mean_trust": float(sessions["mean_trust"].mean()),
    }
    if "stereo_error_deg" not in sessions:
        return counts
    return counts | {
        "stereo_error_deg": _pooled(sessions, "stereo_error_deg", "stereo_pixels"),
        "stereo_error_where_trusted_deg": _pooled(sessions, "trusted_error_deg", "trusted_pixels"),
        "trusted_share": float(sessions["trusted_pixels"].sum() / sessions["stereo_pixels"].sum()),
    }


def _pooled(sessions: pd.DataFrame, error: str, pixels: str) -> float:
    return float((sessions[error] * sessions[pixels]).sum() / sessions[pixels].sum())


if __name__ == "__main__":
    main()
