"""What every command needs: where it writes, which weights it takes, and how far it is."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Out = Annotated[Path, typer.Option("--out", file_okay=False, help="Folder to write into; made where it is missing.")]
Weights = Annotated[Path, typer.Option(help="A weights file, or release: the network that comes along.")]
RELEASE = Path("release")


def progress(name: str) -> Progress:
    """A bar on stderr."""
    columns = (TextColumn(name), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True))
