"""Every table of this folder: `python -m benchmarks.photometric` prints results.md, `--write` writes it."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.photometric import real, registration, solvers, trust
from casfne.errors import guard
from casfne.files import write_text
from casfne.model.timing import machine

RESULTS = Path(__file__).parent / "results.md"
PARTS = (solvers, real, registration, trust)


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table; the first row are the heads."""
    head, *body = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([head, "| --- " * len(rows[0]) + "|", *body])


@guard
def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="How far photometric stereo can be believed; takes some minutes.")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name}")
    write = parser.parse_args().write
    parts = [
        "# How far photometric stereo can be believed",
        f"`python -m benchmarks.photometric --write`; {machine()}.",
    ]
    for part in PARTS:
        parts += [f"## {part.TITLE}", part.TEXT, markdown(part.table())]
    text = "\n\n".join(parts) + "\n"
    print(text)
    if write:
        write_text(RESULTS, text)


if __name__ == "__main__":
    main()
