"""The report: one static HTML page that needs nothing beside it."""

import base64
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from numpy.typing import NDArray

from casfne.evaluation.metrics import THRESHOLDS_DEG
from casfne.images import encode_image

QUERY = """from casfne import table
labels = table.read("data/labels")                        # a pandas frame, one row a face
labels.groupby("corpus")[["roughness_deg", "confidence_deg"]].median()"""


def render(
    evaluation: dict[str, Any],
    prepare: dict[str, Any],
    labels: pd.DataFrame,
    figures: dict[str, NDArray],
) -> str:
    """The page as HTML.

    ``evaluation`` and ``prepare`` are the metrics of those stages, ``labels`` the per-corpus summary of
    `table.summary`, ``figures`` uint8 RGB pictures by caption.
    """
    template = jinja2.Template(
        (Path(__file__).parent / "page.html").read_text(encoding="utf-8"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    return template.render(
        evaluation=evaluation,
        prepare=prepare,
        labels=labels.reset_index().to_dict("records"),
        label_columns=list(labels.reset_index().columns),
        figures={caption: data_uri(picture) for caption, picture in figures.items()},
        thresholds=[f"{limit:g}" for limit in THRESHOLDS_DEG],
        query=QUERY,
        names={"constant": "constant (0, 0, 1)", "mean_map": "mean normal map of the training people"},
    )


def data_uri(picture: NDArray) -> str:
    """A picture, uint8 RGB, as the address of an image inside the page."""
    return "data:image/png;base64," + base64.b64encode(encode_image(picture)).decode()
