"""The report: one HTML page that needs nothing beside it. A viewer of faces, then numbers, cases and totals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from casfne import schema, table
from casfne.evaluation.metrics import THRESHOLDS_DEG
from casfne.normals import FRAMES
from casfne.report.charts import histogram, lines
from casfne.report.faces import Face, payload

HERE = Path(__file__).parent
CASES = 4  # of each kind: the worst, the best
FLAGS = ("extreme_light", "occluded", "low_quality", "profile")
NAMES = {"constant": "constant (0, 0, 1)", "mean_map": "mean map of the training"}
QUERY = """from casfne import table
labels = table.read("{labels}")  # a pandas frame, one row a face
labels.groupby("corpus")[["roughness_deg", "confidence_deg"]].median()"""

Numbers = dict[str, Any]


@dataclass(frozen=True)
class Evaluation:
    """What the stage evaluate wrote: its metrics, and a row for each image and predictor where that is at hand."""

    metrics: Numbers
    per_image: pd.DataFrame | None = None


@dataclass(frozen=True)
class Labels:
    """A folder of labels: its name, and `table.read` of it (the columns without pictures)."""

    name: str
    frame: pd.DataFrame


def render(
    tested: Sequence[Face],
    labelled: Sequence[Face],
    evaluation: Evaluation | None = None,
    labels: Labels | None = None,
    prepare: Numbers | None = None,
) -> str:
    """The page as HTML. tested: faces with truth; labelled: without, best first. What is None is left out."""
    tested = sorted(tested, key=lambda face: (face.errors_deg or [0.0])[-1])
    template = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    ).from_string(_text("page.html"))
    return template.render(
        style=Markup(_text("page.css")),
        script=Markup(_text("render.js") + _text("viewer.js")),
        data=Markup(payload([*tested, *labelled])),
        faces=len(tested) + len(labelled),
        frames=FRAMES,
        cases=_cases(tested, 0, "people with known truth", "error")
        + _cases(labelled, len(tested), "labels", "shading"),
        headlines=_headlines(evaluation, labels),
        evaluation=None if evaluation is None else _evaluated(evaluation),
        labels=None if labels is None else _labelled(labels),
        prepare=prepare,
    )


def _text(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def _cases(faces: Sequence[Face], first: int, of: str, view: str) -> list[Numbers]:
    """The ends of a list that goes from best to worst: title, and number and caption of each face."""
    count = min(CASES, len(faces) // 2)
    if not count:
        return []
    worst, best = list(range(len(faces) - 1, len(faces) - 1 - count, -1)), list(range(count))
    return [
        {"title": f"{word} of the {of}", "view": view, "faces": [(first + i, _caption(faces[i])) for i in chosen]}
        for word, chosen in (("Worst", worst), ("Best", best))
    ]


def _caption(face: Face) -> str:
    said = f"{face.errors_deg[-1]:.1f}° off" if face.errors_deg else ", ".join(face.facts[:1])
    return f"{face.name}: {said}" if said else face.name


# --- numbers ---


def _headlines(evaluation: Evaluation | None, labels: Labels | None) -> list[tuple[str, str]]:
    """What matters most, large: value and words."""
    said = []
    if evaluation is not None:
        e, last = evaluation.metrics, _stages(evaluation.metrics)[-1]
        of = f"{e['images']} images of {e['people']} people whom the training has not seen"
        said.append(
            (f"{e['by_image'][last]['mean_deg']:.1f}°{_interval(e['by_image'][last])}", f"mean angular error, {of}")
        )
        said.append((f"{100 * e['by_pixel'][last]['below_20_deg']:.0f} %", "of their pixels within 20° of the truth"))
    if labels is not None:
        f = labels.frame
        ok, images = int((f["status"] == "ok").sum()), len(f[["corpus", "image_id"]].drop_duplicates())
        said.append((f"{ok:,}", f"faces labelled in {images:,} images of {', '.join(f['corpus'].unique())}"))
        if f["confidence_deg"].notna().any():
            said.append((f"{f['confidence_deg'].median():.1f}°", "error to expect of a label (median, calibrated)"))
    return said


def _interval(numbers: Mapping[str, Any]) -> str:
    """The interval of a mean, where there is one."""
    low, high = numbers.get("low_deg"), numbers.get("high_deg")
    return "" if low is None or high is None else f" ({low:.1f}–{high:.1f})"


def _stages(metrics: Numbers) -> list[str]:
    """Names of the cascade's predictors, t0 first."""
    return sorted((n for n in metrics["by_pixel"] if n[:1] == "t" and n[1:].isdigit()), key=lambda n: int(n[1:]))


def _spoken(name: str) -> str:
    return NAMES.get(name, f"t = {name[1:]}" if name[1:].isdigit() else name)


def _evaluated(evaluation: Evaluation) -> Numbers:
    metrics, stages = evaluation.metrics, _stages(evaluation.metrics)
    by_pixel = metrics["by_pixel"]
    shares = {
        _spoken(name): [(limit, 100 * e[f"below_{limit:g}_deg"]) for limit in THRESHOLDS_DEG]
        for name, e in by_pixel.items()
    }
    curve = {
        name: [(int(t[1:]), by_pixel[t][key]) for t in stages]
        for name, key in (("mean", "mean_deg"), ("median", "median_deg"))
    }
    charts = [lines(shares, "angle, degrees", "share of pixels within it, %", 0)]
    if len(stages) > 1:
        charts.append(lines(curve, "t, refinements", "angular error, degrees", whole=True))
    if evaluation.per_image is not None:
        errors = evaluation.per_image.query("predictor == @last", local_dict={"last": stages[-1]})["mean_deg"]
        charts.append(histogram(errors, f"mean error of an image at {_spoken(stages[-1])}, degrees", "images"))
    return metrics | {
        "rows": [(_spoken(name), e, metrics["by_image"][name], name == stages[-1]) for name, e in by_pixel.items()],
        "thresholds": [f"{limit:g}" for limit in THRESHOLDS_DEG],
        "interval": _interval,
        "charts": [Markup(chart) for chart in charts],
        "parts": _parts(metrics, stages[-1]),
    }


def _parts(metrics: Numbers, last: str) -> list[tuple[str, Numbers]]:
    """Tables of one stage: by region of the face, and by each kind of image that is known."""
    found = {"region": metrics.get("regions", {}).get(last, {})} | metrics.get("bins", {}).get(last, {})
    return [(name.replace("_", " "), numbers) for name, numbers in found.items() if numbers]


def _labelled(labels: Labels) -> Numbers:
    frame = labels.frame
    ok, totals = frame[frame["status"] == "ok"], table.summary(frame)
    if len(ok):
        totals = totals.join(100 * ok.groupby("corpus")[list(FLAGS)].mean().astype(float).add_suffix(" %"))
    charts = [
        histogram(ok[name], f"{words}, degrees", "faces")
        for name, words in (("confidence_deg", "error to expect"), ("roughness_deg", "roughness"))
        if ok[name].notna().any()
    ]
    failed = frame[frame["status"] != "ok"].groupby(["corpus", "status", "reason_code"], dropna=False)
    counts = failed.size().rename("count").reset_index().sort_values("count", ascending=False)
    return {
        "totals": totals.rename(columns=_short).reset_index().to_dict("records"),
        "failures": [
            row
            | {
                "meaning": schema.REASONS[code].meaning
                if (code := row["reason_code"]) in schema.REASONS
                else "not said"
            }
            for row in counts.to_dict("records")
        ],
        "charts": [Markup(chart) for chart in charts],
        "query": QUERY.format(labels=labels.name),
    }


def _short(column: str) -> str:
    return column.removesuffix("_median").replace("_deg", ", °").replace("_", " ")
