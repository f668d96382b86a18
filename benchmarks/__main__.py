"""Run every benchmark, print a table, write benchmarks/results/latest.json."""

import importlib
import json
import pkgutil
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

import benchmarks
from benchmarks import Result
from casfne.files import write_text
from casfne.model.timing import machine

LATEST = Path(__file__).parent / "results" / "latest.json"


def main() -> None:
    """All benchmarks, one after the other: they would disturb each other side by side. Exit code 1 where one failed."""
    names = sorted(m.name for m in pkgutil.iter_modules(benchmarks.__path__) if m.name != "__main__" and not m.ispkg)
    results, failed = measure(names, LATEST)
    table = Table("name", "value", "unit", "what")
    for r in results:
        table.add_row(r.name, f"{r.value:.4g}", r.unit, r.what)
    Console(width=140).print(table)
    print(f"wrote {LATEST.relative_to(Path.cwd())}" if LATEST.is_relative_to(Path.cwd()) else f"wrote {LATEST}")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def measure(names: Sequence[str], latest: Path) -> tuple[list[Result], list[str]]:
    """What these modules measured, and which of them failed. ``latest`` is written after each: an hour's work is not
    lost to the last one."""
    results: list[Result] = []
    failed = []
    for name in names:
        try:
            results += importlib.import_module(f"benchmarks.{name}").run()
        except Exception:  # whatever it is: the others are still worth having
            traceback.print_exc()
            failed.append(name)
        content = {r.name: {"value": r.value, "unit": r.unit, "what": r.what, "machine": machine()} for r in results}
        write_text(latest, json.dumps(content, indent=2) + "\n")
    return results, failed


if __name__ == "__main__":
    main()
