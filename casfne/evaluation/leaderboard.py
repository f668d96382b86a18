"""The leaderboard: results by name, and the tables made of them, what the paper reports beside what was measured."""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from casfne.errors import InputError
from casfne.evaluation import reported
from casfne.evaluation.metrics import THRESHOLDS_DEG
from casfne.evaluation.protocol import PROTOCOL
from casfne.files import atomic_open, write_text

JSON, PER_IMAGE, LOCK = "leaderboard.json", "per_image.parquet", ".lock"
PAPER = ("II", "III")  # the tables that compare methods
_LACKS = {
    "missing": "are missing, counted as 90 degrees",
    "unusable": "are unusable, counted as 90 degrees",
    "gaps": "have pixels that hold no unit normal, counted as 90 degrees",
}

_SHARES = [f"below_{limit:g}_deg" for limit in THRESHOLDS_DEG]
_NUMBERS = ["mean_deg", "std_deg", "median_deg", "rmse_deg", "low_deg", "high_deg", *_SHARES]
_HEADS = {
    "name": "method",
    "mean ± std": "mean ± std",
    "interval": "95 %",
    "median_deg": "median",
    "rmse_deg": "RMSE",
    **{name: f"< {limit:g}°" for name, limit in zip(_SHARES, THRESHOLDS_DEG, strict=True)},
    "by_image": "by image",
    "images": "images",
    "lacking": "lacking",
}


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """The board in ``folder``, which is made, for one process alone; others wait."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class Board:
    """The results in a folder: leaderboard.json by name, .md, .csv, .parquet, .tex, and per_image.parquet."""

    def __init__(self, folder: Path) -> None:
        """InputError: what is there is no board, or was measured by another protocol."""
        self._folder = folder
        self.results: dict[str, dict[str, Any]] = {}
        self._images: dict[str, pd.DataFrame] = {}
        if (folder / JSON).exists():
            self._read()

    def _read(self) -> None:
        try:
            self.results = json.loads((self._folder / JSON).read_text())
            images = pd.read_parquet(self._folder / PER_IMAGE)
            self._images = {str(name): rows for name, rows in images.groupby("name")}
            protocols = {result["protocol_sha256"] for result in self.results.values()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{self._folder / JSON}: no leaderboard ({error})") from None
        if protocols - {PROTOCOL.sha256}:
            raise InputError(f"{self._folder / JSON}: measured by another protocol; choose another folder")

    def add(self, name: str, result: dict[str, Any], per_image: pd.DataFrame) -> None:
        """Put a method's result and its row for each image in. InputError: the others had another truth."""
        truths = {other["truth"]["sha256"] for held, other in self.results.items() if held != name}
        if truths - {result["truth"]["sha256"]}:
            raise InputError(f"{self._folder / JSON}: measured against another truth; choose another folder")
        self.results[name] = result
        self._images[name] = per_image.assign(name=name)

    def write(self) -> None:
        """Write every file, whole or not at all; leaderboard.json last."""
        table = rows(self.results)
        with atomic_open(self._folder / PER_IMAGE) as file:
            pd.concat(self._images.values(), ignore_index=True).to_parquet(file, index=False)
        with atomic_open(self._folder / "leaderboard.parquet") as file:
            table.to_parquet(file, index=False)
        write_text(self._folder / "leaderboard.csv", table.to_csv(index=False))
        write_text(self._folder / "leaderboard.md", markdown(self.results))
        write_text(self._folder / "leaderboard.tex", latex(self.results))
        write_text(self._folder / JSON, json.dumps(self.results, indent=2, allow_nan=False) + "\n")


def rows(results: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """One row a method: first the ``measured`` ones, best first, then the ``reported`` ones, as column kind says.

    Columns: kind, source, name, the numbers by pixel, by_image_mean_deg, images, people, pixels, missing and unusable
    (maps), protocol_sha256. What a table of the paper does not say is null.
    """
    theirs = pd.concat([reported.errors(table) for table in PAPER], ignore_index=True)
    return pd.concat([_measured(results), theirs], ignore_index=True)


def _measured(results: dict[str, dict[str, Any]]) -> pd.DataFrame:
    found = [
        {"kind": "measured", "source": result["truth"]["name"], "name": name}
        | {number: result["by_pixel"][number] for number in _NUMBERS}
        | {"by_image_mean_deg": result["by_image"]["mean_deg"]}
        | {count: result["by_pixel"][count] for count in ("images", "people", "pixels")}
        | {"missing": len(result["missing"]), "unusable": len(result["unusable"])}
        | {"protocol_sha256": result["protocol_sha256"]}
        for name, result in results.items()
    ]
    frame = pd.DataFrame(found).astype({"low_deg": float, "high_deg": float})
    return frame.sort_values("mean_deg", ignore_index=True)


def markdown(results: dict[str, dict[str, Any]]) -> str:
    """The page: measured methods, what is wrong with them, and apart from them the paper's tables."""
    measured = _measured(results)
    first = measured.iloc[0]
    remarks = [f"- {name}: {remark}" for name, result in results.items() for remark in problems(result)]
    lines = [
        "# Leaderboard",
        "",
        f"## Measured: {first['source']}",
        "",
        f"{first['images']} images of {first['people']} people, {first['pixels']:,} pixels; degrees, by pixel, "
        f"with the mean's interval over people. Protocol {PROTOCOL.version}, `{PROTOCOL.sha256[:12]}`.",
        "",
        *markdown_table(cells_of(measured)),
        "",
        *([*remarks, ""] if remarks else []),
    ]
    for table in PAPER:
        theirs = reported.errors(table)
        lines += [f"## Reported: {theirs['source'].iloc[0]}", ""]
        lines += ["As the paper prints it; nobody measured it here, nor on these pixels.", ""]
        lines += [*markdown_table(cells_of(theirs)), ""]
    return "\n".join(lines)


def latex(results: dict[str, dict[str, Any]]) -> str:
    """One tabular for what was measured, one for each table of the paper, for booktabs."""
    tables = [_measured(results), *(reported.errors(table) for table in PAPER)]
    return "\n".join(
        f"% {frame['kind'].iloc[0]}: {frame['source'].iloc[0]}\n{tabular(cells_of(frame))}" for frame in tables
    )


def problems(result: dict[str, Any]) -> list[str]:
    """What a result lacks and what looks wrong, a line each, with the first names."""
    lines = list(result["warnings"])
    for key, what in _LACKS.items():
        found = result[key]
        named = [f"{name} ({found[name]})" if isinstance(found, dict) else str(name) for name in found]
        if named:
            shown = ", ".join(named[:3]) + (", ..." if len(named) > 3 else "")
            lines.append(f"{len(named)} of {result['by_pixel']['images']} maps {what}: {shown}")
    return lines


def cells_of(frame: pd.DataFrame) -> pd.DataFrame:
    """The table as text, of the columns that it has; what is reported with no more digits than the paper prints."""
    digits = "{:.2f}" if frame["kind"].iloc[0] == "measured" else "{:.4g}"
    degrees = {name: frame[name].map(digits.format) for name in ("median_deg", "rmse_deg") if name in frame}
    shares = {name: (100 * frame[name]).map(f"{digits}%".format) for name in _SHARES if name in frame}
    cells = pd.DataFrame({"name": frame["name"], **degrees, **shares})
    cells["mean ± std"] = frame["mean_deg"].map(digits.format) + " ± " + frame["std_deg"].map(digits.format)
    if "by_image_mean_deg" in frame:
        limits = zip(frame["low_deg"], frame["high_deg"], strict=True)
        cells["interval"] = ["" if low != low else f"{low:.2f} to {high:.2f}" for low, high in limits]
        cells["by_image"] = frame["by_image_mean_deg"].map("{:.2f}".format)
        cells["images"] = frame["images"]
        cells["lacking"] = frame["missing"] + frame["unusable"]
    return cells[[name for name in _HEADS if name in cells]].rename(columns=_HEADS).astype(str)


def markdown_table(cells: pd.DataFrame) -> list[str]:
    """Lines of a Markdown table: the heads, then a row each; columns but the first lean right."""
    head, *body = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in _lines(cells)]
    return [head, "| --- " + "| ---: " * (cells.shape[1] - 1) + "|", *body]


def tabular(cells: pd.DataFrame) -> str:
    """The same as LaTeX, with the rules of booktabs."""
    ends = ["\\toprule", "\\midrule", "\\bottomrule"]
    head, *body = [" & ".join(map(_tex, line)) + " \\\\" for line in _lines(cells)]
    columns = "l" + "r" * (cells.shape[1] - 1)
    return "\n".join([f"\\begin{{tabular}}{{{columns}}}", ends[0], head, ends[1], *body, ends[2], "\\end{tabular}", ""])


def _lines(cells: pd.DataFrame) -> list[list[str]]:
    """The heads, and then each row."""
    return [list(cells), *cells.to_numpy(str).tolist()]


_TEX = {"±": "$\\pm$", "°": "$^\\circ$", "<": "$<$", "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\^{}"}


def _tex(text: str) -> str:
    return "".join(_TEX.get(c, f"\\{c}" if c in "&%$#_{}" else c) for c in text)
