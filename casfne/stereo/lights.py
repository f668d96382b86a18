"""Light directions from the files that name them. Unit vectors from the surface to the light, frame opengl."""

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from casfne.errors import InputError
from casfne.normals import direction, direction_from_zenith

Angles = NDArray[np.float64]

_LIGHTS = 4
_LONGEST = 10_000  # characters of a file that names four lights
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_END = r"(?=\s*(?:[;,\n]|$|\*\s*pi))"  # of a value; no other expression is understood
_ASSIGNMENT = re.compile(rf"(zenith|azimuth)\w*?\s*[_({{]?\s*(\d+)\s*[)}}]?\s*=\s*({_NUMBER}){_END}", re.IGNORECASE)
_VECTOR = re.compile(r"(zenith|azimuth)\w*\s*=\s*\[([^\[\]]*)\]", re.IGNORECASE)
_ROW = re.compile(r"[a-z_]\w*?[_({]?\s*(\d+)\s*(?:,\s*:\s*)?[)}]?\s*=\s*\[([^\[\]]*)\]", re.IGNORECASE)
_MATRIX = re.compile(r"\[([^\[\]]*)\]")
_YALE_NAME = re.compile(r"A([+-]\d{3})E([+-]\d{2})$")


def read_light_source(path: Path | str) -> NDArray[np.float32]:
    """The four lights [4, 3] of a Photoface session, from its LightSource.m.

    Forms that are read: one matrix of numbers, a row (zenith, azimuth) for each light or a row of four zeniths above
    one of four azimuths; numbered rows, ``light(1,:) = [40 45];``; numbered assignments, ``zenith1 = 40; azimuth1 =
    45;``; two vectors, ``zenith = [40 40 30 30]; azimuth = [...]``. Commas, line breaks, comments and continued lines
    are MATLAB's. Azimuth turns about the camera axis, from the picture's right towards its top. Angles are radians
    when no zenith exceeds pi/2 and no azimuth 2 pi, else degrees.
    Anything else is an InputError naming the file: also files in which more than one matrix could be meant.
    """
    path = Path(path)
    try:
        code = _code(path.read_text(encoding="latin-1")[:_LONGEST])
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    found = [angles for read in (_numbered, _vectors, _rows, _matrix) if (angles := read(code)) is not None]
    if not found:
        raise InputError(
            f"{path}: expected zenith and azimuth of four lights, as a matrix, two vectors, or numbered assignments"
        )
    angles = found[0]
    if np.abs(angles[:, 0]).max() <= np.pi / 2 and np.abs(angles[:, 1]).max() <= 2 * np.pi:
        angles = np.degrees(angles)
    if not (np.abs(angles[:, 0]) < 90).all() or not (np.abs(angles[:, 1]) <= 360).all():
        raise InputError(f"{path}: angles out of range: {angles.tolist()}")
    return direction_from_zenith(angles[:, 0], angles[:, 1])


def _code(text: str) -> str:
    """MATLAB text without block comments, comments and line continuations."""
    text = re.sub(r"(?ms)^[ \t]*%\{[ \t]*$.*?^[ \t]*%\}[ \t]*$", "", text.replace("\r", "\n"))
    lines = "\n".join(line.split("%")[0] for line in text.splitlines())
    return re.sub(r"\.\.\.[^\n]*\n", " ", lines)


def _numbers(text: str) -> list[list[float]] | None:
    """The rows of a matrix's inside; None where anything in it is no number."""
    rows = [re.split(r"[\s,]+", row.strip(" \t,")) for row in re.split(r"[;\n]", text) if row.strip(" \t,")]
    if not all(re.fullmatch(_NUMBER, value) for row in rows for value in row):
        return None
    return [[float(value) for value in row] for row in rows]


def _numbered(code: str) -> Angles | None:
    values = {(name.lower(), int(number)): float(value) for name, number, value in _ASSIGNMENT.findall(code)}
    order = _count({number for _, number in values})
    if order is None or len(values) != 2 * _LIGHTS:
        return None
    return np.array([[values["zenith", i], values["azimuth", i]] for i in order])


def _vectors(code: str) -> Angles | None:
    read = {name.lower(): _numbers(inside) for name, inside in _VECTOR.findall(code)}
    flat = {name: [value for row in rows or [] for value in row] for name, rows in read.items()}
    if set(flat) != {"zenith", "azimuth"} or any(len(values) != _LIGHTS for values in flat.values()):
        return None
    return np.array([flat["zenith"], flat["azimuth"]]).T


def _rows(code: str) -> Angles | None:
    rows = {int(number): _numbers(inside) for number, inside in _ROW.findall(code)}
    order = _count(set(rows))
    if order is None or any(row is None or len(row) != 1 or len(row[0]) != 2 for row in rows.values()):
        return None
    return np.array([row[0] for i in order if (row := rows[i])])


def _matrix(code: str) -> Angles | None:
    inside = [_numbers(text) for text in _MATRIX.findall(code)]
    arrays = [np.array(rows) for rows in inside if rows and len({len(row) for row in rows}) == 1]
    fitting = [array for array in arrays if array.shape in ((_LIGHTS, 2), (2, _LIGHTS))]
    if len(fitting) != 1:
        return None
    return fitting[0] if fitting[0].shape == (_LIGHTS, 2) else fitting[0].T


def _count(numbers: set[int]) -> list[int] | None:
    """Four numbers that count from 0 or from 1, in order; None for others."""
    order = sorted(numbers)
    return order if order in ([0, 1, 2, 3], [1, 2, 3, 4]) else None


def yale_light(stem: str) -> NDArray[np.float32]:
    """The light [3] that a Yale B file stem names, ``..A+035E-20``; InputError for another form.

    There a positive azimuth is to the right of the person, so on the left of the picture.
    """
    found = _YALE_NAME.search(stem)
    if not found:
        raise InputError(f"{stem}: no light in the name, expected an ending like A+035E-20")
    return direction(-int(found[1]), int(found[2]))
