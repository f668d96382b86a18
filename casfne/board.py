"""The command that compares methods: compare."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from casfne.console import Out, progress
from casfne.errors import InputError

board_app = typer.Typer()


@board_app.command()
def compare(
    truth: Annotated[
        Path,
        typer.Option("--truth", help="A sample index (.parquet) or its folder, or a folder of normals/ and masks/."),
    ],
    predictions: Annotated[
        list[str],
        typer.Option("--predictions", help="NAME=DIR or NAME=DIR:FRAME; DIR holds <id>.npy, .npz, .png or .exr."),
    ],
    out: Out,
    more: Annotated[list[str] | None, typer.Argument(help="More predictions.", metavar="[NAME=DIR]...")] = None,
    split: Annotated[
        Path | None, typer.Option(help="Split of the people (data/split.json): the test people alone are measured.")
    ] = None,
) -> None:
    """Angular errors of any methods against one truth, by one protocol, as a leaderboard.

    Writes leaderboard.json, .md, .csv, .parquet, .tex and per_image.parquet; methods that are there already stay.
    What is missing counts as 90 degrees, is named, and makes the command exit with 1. Frames: opengl (x right, y up, z
    towards the camera), directx, opencv, sfs.

    Example: casfne compare --truth data/samples --predictions ours=out/a theirs=out/b:opencv --out out/board
    """
    from casfne.evaluation.compare import compare as run
    from casfne.evaluation.compare import parse_method
    from casfne.evaluation.leaderboard import problems

    methods = [parse_method(text) for text in [*predictions, *(more or [])]]
    with progress("compare") as bar:
        tasks = {method.name: bar.add_task(method.name, total=None) for method in methods}
        results = run(
            truth, methods, out, split, lambda name, done, total: bar.update(tasks[name], completed=done, total=total)
        )
    for name, result in sorted(results.items(), key=lambda item: float(item[1]["by_pixel"]["mean_deg"])):
        numbers = result["by_pixel"]
        print(f"{name}: {numbers['mean_deg']:.2f} ± {numbers['std_deg']:.2f} deg, {numbers['images']} images")
    lacking = [
        method.name for method in methods if any(results[method.name][k] for k in ("missing", "unusable", "gaps"))
    ]
    for method in methods:
        for line in problems(results[method.name]):
            print(f"{method.name}: {line}", file=sys.stderr)
    if lacking:
        raise InputError(f"{', '.join(lacking)}: not every pixel was predicted; {out} counts what lacks as 90 degrees")
