"""Run every benchmark, print a table, write benchmarks/results/latest.json."""

import importlib
import json
import pkgutil
from pathlib import Path

from rich.console import Console
from rich.table import Table

import benchmarks
from casfne.files import write_text
from casfne.model.timing import machine

LATEST = Path(__file__).parent / "results" / "latest.json"


def main() -> None:
    """All benchmarks, one after the other: they would disturb each other side by side."""
    names = sorted(m.name for m in pkgutil.iter_modules(benchmarks.__path__) if m.name != "__main__" and not m.ispkg)
    results = [result for name in names for result in importlib.import_module(f"benchmarks.{name}").run()]
    table = Table("name", "value", "unit", "what")
    for r in results:
        table.add_row(r.name, f"{r.value:.4g}", r.unit, r.what)
    Console(width=140).print(table)
    content = {r.name: {"value": r.value, "unit": r.unit, "what": r.what, "machine": machine()} for r in results}
    write_text(LATEST, json.dumps(content, indent=2) + "\n")
    print(f"wrote {LATEST.relative_to(Path.cwd())}" if LATEST.is_relative_to(Path.cwd()) else f"wrote {LATEST}")


if __name__ == "__main__":
    main()
