"""Which files of the package a script really imports: read from the source, nothing is run."""

import ast
from pathlib import Path

from conftest import ROOT


def direct(file: Path) -> set[Path]:
    """Files of `casfne` that ``file`` imports, lazily or not; of a package its __init__ only where that is meant."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "casfne":
            found |= {
                f
                for alias in node.names
                for f in [_resolve(f"{node.module}.{alias.name}") or _resolve(node.module)]
                if f
            }
        elif isinstance(node, ast.Import):
            found |= {f for alias in node.names for f in [_resolve(alias.name)] if f}
    return found


def closure(file: Path) -> set[Path]:
    """All that ``file`` reaches by such imports."""
    reached: set[Path] = set()
    todo = direct(file)
    while todo:
        one = todo.pop()
        if one not in reached:
            reached.add(one)
            todo |= direct(one)
    return reached


def _resolve(module: str) -> Path | None:
    path = ROOT.joinpath(*module.split("."))
    files = (path.with_suffix(".py"), path / "__init__.py")
    return next((file for file in files if module.startswith("casfne.") and file.is_file()), None)
