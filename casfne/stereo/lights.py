"""Light directions from the files that name them. Unit vectors from the surface to the light, frame opengl."""

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from casfne.errors import InputError
from casfne.normals import direction, direction_from_zenith

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_ASSIGNMENT = re.compile(rf"(zenith|azimuth)\w*?\s*[_({{]?\s*(\d+)\s*[)}}]?\s*=\s*({_NUMBER})", re.IGNORECASE)
_MATRIX = re.compile(r"\[([^\]]*)\]")
_YALE_NAME = re.compile(r"A([+-]\d{3})E([+-]\d{2})$")


def read_light_source(path: Path | str) -> NDArray[np.float32]:
    """The four lights [4, 3] of a Photoface session, from its LightSource.m.

    Two forms are read: a bracketed matrix with a row (zenith, azimuth) for each light, or numbered
    assignments such as ``zenith1 = 40; azimuth1 = 45;``. Azimuth turns about the camera axis, from the
    picture's right towards its top. Angles are radians when no zenith exceeds pi/2 and no azimuth 2 pi, else
    degrees. Anything else is an InputError naming the file.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="latin-1")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    code = "\n".join(line.split("%")[0] for line in text.splitlines())
    angles = _numbered(code) if _ASSIGNMENT.search(code) else _matrix(code)
    if angles is None:
        raise InputError(f"{path}: expected zenith and azimuth of four lights, as a matrix or numbered assignments")
    if np.abs(angles[:, 0]).max() <= np.pi / 2 and np.abs(angles[:, 1]).max() <= 2 * np.pi:
        angles = np.degrees(angles)
    if not (np.abs(angles[:, 0]) < 90).all() or not (np.abs(angles[:, 1]) <= 360).all():
        raise InputError(f"{path}: angles out of range: {angles.tolist()}")
    return direction_from_zenith(angles[:, 0], angles[:, 1])


def _matrix(code: str) -> NDArray[np.float64] | None:
    found = _MATRIX.search(code)
    if not found:
        return None
    rows = [re.findall(_NUMBER, row) for row in re.split(r"[;\n]", found[1]) if row.strip()]
    leftover = re.sub(_NUMBER, "", found[1])
    if len(rows) != 4 or any(len(row) != 2 for row in rows) or re.search(r"[^\s;,]", leftover):
        return None
    return np.array(rows, np.float64)


def _numbered(code: str) -> NDArray[np.float64] | None:
    values = {(name.lower(), int(number)): float(value) for name, number, value in _ASSIGNMENT.findall(code)}
    first = 0 if ("zenith", 0) in values else 1
    expected = {(name, i) for name in ("zenith", "azimuth") for i in range(first, first + 4)}
    if set(values) != expected:
        return None
    return np.array([[values["zenith", i], values["azimuth", i]] for i in range(first, first + 4)])


def yale_light(stem: str) -> NDArray[np.float32]:
    """The light [3] that a Yale B file stem names, ``..A+035E-20``; InputError for another form.

    There a positive azimuth is to the right of the person, so on the left of the picture.
    """
    found = _YALE_NAME.search(stem)
    if not found:
        raise InputError(f"{stem}: no light in the name, expected an ending like A+035E-20")
    return direction(-int(found[1]), int(found[2]))
