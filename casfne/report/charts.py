"""Charts as inline SVG, in the colours of the page that they stand in (classes s0, s1, ... and currentColor)."""

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from numpy.typing import ArrayLike, NDArray

WIDTH, HEIGHT = 520, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 12, 14, 44
Points = Sequence[tuple[float, float]]


def lines(series: Mapping[str, Points], x: str, y: str, y_from: float | None = None, whole: bool = False) -> str:
    """Lines with points (x, y) by name, as many as the page has colours (8). ``whole``: x counts."""
    xs = [p[0] for points in series.values() for p in points]
    ys = [p[1] for points in series.values() for p in points]
    frame = _Frame(_ticks(min(xs), max(xs), whole), _ticks(min(ys) if y_from is None else y_from, max(ys)))
    body = []
    for i, points in enumerate(series.values()):
        places = [(frame.x(px), frame.y(py)) for px, py in points]
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in places)
        body.append(f'<polyline class="s{i}" points="{path}"/>')
        body += [
            f'<circle class="s{i}" cx="{px:.1f}" cy="{py:.1f}" r="3.5"><title>{vx:g}: {vy:.4g}</title></circle>'
            for (px, py), (vx, vy) in zip(places, points, strict=True)
        ]
    return frame.svg(body, x, y, list(series))


def histogram(values: ArrayLike, x: str, y: str, bins: int = 24) -> str:
    """How often values fall into bins of equal width between their least and greatest; NaN are left out."""
    v: NDArray[np.float64] = np.asarray(values, np.float64)
    v = v[np.isfinite(v)]
    if not v.size:
        return f"<p>No {escape(x)} is known.</p>"
    ticks = _ticks(float(v.min()), float(v.max()))
    counts, edges = np.histogram(v, bins, (ticks[0], ticks[-1]))
    frame = _Frame(ticks, _ticks(0, float(counts.max())))
    body = []
    for count, low, high in zip(counts, edges, edges[1:], strict=False):
        left, right, top = frame.x(low), frame.x(high), frame.y(count)
        title = f"<title>{low:.4g} to {high:.4g}: {count}</title>"
        size = f'width="{max(right - left - 1, 1):.1f}" height="{frame.y(0) - top:.1f}"'
        body.append(f'<rect class="s0" x="{left:.1f}" y="{top:.1f}" {size}>{title}</rect>')
    return frame.svg(body, x, y, [])


def _ticks(low: float, high: float, whole: bool = False) -> list[float]:
    """Round numbers at even steps that reach from below ``low`` to above ``high``: some six of them."""
    span = max(high - low, 1e-6, abs(high) * 1e-3)
    raw = span / 5
    unit = 10 ** np.floor(np.log10(raw))
    step = float(unit * next(m for m in (1, 2, 2.5, 5, 10) if m * unit >= raw - 1e-12))
    step = max(step, 1.0) if whole else step
    first, last = np.floor(low / step + 1e-9), np.ceil(high / step - 1e-9)
    return [float(round(i * step, 10)) for i in np.arange(first, max(last, first + 1) + 1)]


class _Frame:
    """Axes from ticks, and where a value lies on them in pixels."""

    def __init__(self, across: list[float], up: list[float]) -> None:
        self.across, self.up = across, up

    def x(self, value: float) -> float:
        """Pixels from the left."""
        share = (value - self.across[0]) / (self.across[-1] - self.across[0])
        return _LEFT + share * (WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        """Pixels from the top."""
        share = (value - self.up[0]) / (self.up[-1] - self.up[0])
        return HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM)

    def svg(self, body: list[str], x: str, y: str, names: list[str]) -> str:
        """The figure: grid, ticks and names of the axes around ``body``, and a key of ``names``."""
        floor = HEIGHT - _BOTTOM
        grid = [f'<path class="grid" d="M{_LEFT} {self.y(v):.1f}H{WIDTH - _RIGHT}"/>' for v in self.up]
        texts = [_text(_LEFT - 8, self.y(v) + 4, f"{v:g}", "end") for v in self.up]
        texts += [_text(self.x(v), floor + 18, f"{v:g}", "middle") for v in self.across]
        texts.append(_text((WIDTH + _LEFT) / 2, HEIGHT - 6, x, "middle"))
        turned = f'transform="translate(14 {(_TOP + floor) / 2:.0f}) rotate(-90)"'
        texts.append(f'<text {turned} text-anchor="middle">{escape(y)}</text>')
        label = escape(f"{y} against {x}", quote=True)
        chart = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">' + "".join(
            [*grid, *texts, *body]
        )
        key = "".join(f'<span class="s{i}">{escape(name)}</span>' for i, name in enumerate(names))
        return f'<figure class="chart">{chart}</svg><figcaption>{key}</figcaption></figure>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
