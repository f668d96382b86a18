"""A plain folder of pictures with a lights.csv that names the light of each.

    file,azimuth_deg,elevation_deg        or    file,x,y,z        or    file,x_m,y_m,z_m
    one.png,-30,10
    room.png,ambient,

Azimuth is positive to the picture's right, elevation upwards; x, y, z point from the middle of the face to the light,
frame opengl, of any length. x_m, y_m, z_m is where a lamp is, in metres from the middle of the face, alone or beside
either of the others. The row whose light is `ambient` is the picture without lamps.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from casfne.errors import InputError
from casfne.normals import angle_deg, direction, normalise
from casfne.stereo.captures import Capture, full_scale, stack

NAME = "lights.csv"
AMBIENT = "ambient"

_FILE, _VECTOR, _ANGLES, _PLACE = "file", ("x", "y", "z"), ("azimuth_deg", "elevation_deg"), ("x_m", "y_m", "z_m")
_AGREE_DEG = 10.0  # a direction and a place further apart than this are not of one lamp


@dataclass(frozen=True)
class _Light:
    file: Path
    direction: NDArray[np.float32] | None  # unit [3]; None: the ambient picture
    place: NDArray[np.float32] | None  # [3], metres


def read_lights_csv(folder: Path | str) -> Capture:
    """The capture of a folder with a lights.csv; pictures of any format, 8 or 16 bits, taken as linear.

    InputError naming file and row: a column that is not known or missing, a picture that is not there, named twice or
    of another size, a value that is no finite number, a direction of no length, a lamp that is not where it shines
    from, two ambient pictures, no light at all.
    """
    folder = Path(folder)
    path = folder / NAME
    rows = [_light(row, folder, f"{path}: row {number}") for number, row in _table(path)]
    _check(rows, path)
    lit = [row for row in rows if row.direction is not None]
    pixels = stack([row.file for row in lit] + [row.file for row in rows if row.direction is None])
    places = [row.place for row in lit if row.place is not None]
    return Capture(
        name=folder.absolute().name,
        images=pixels[: len(lit)],
        lights=np.stack([row.direction for row in lit if row.direction is not None]),
        white=full_scale(pixels),
        ambient=pixels[len(lit)] if len(pixels) > len(lit) else None,
        positions=np.stack(places) if places else None,
    )


def _table(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Rows by column, stripped, with their numbers in the file; the header is checked, empty rows are left out."""
    try:
        lines = list(csv.reader(path.read_text("utf-8-sig").splitlines(), skipinitialspace=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as CSV ({error})") from None
    header = [name.strip() for name in lines[0]] if lines else []
    known = {_FILE, *_VECTOR, *_ANGLES, *_PLACE}
    expected = "expected file, then x, y, z or azimuth_deg, elevation_deg or x_m, y_m, z_m, with commas between"
    if wrong := [name for name in header if name not in known or header.count(name) > 1]:
        raise InputError(f"{path}: unknown or repeated column {wrong[0]!r}: {expected}")
    whole = [group for group in (_VECTOR, _ANGLES, _PLACE) if set(group) <= set(header)]
    if set(header) != {_FILE}.union(*whole) or not whole or (_VECTOR in whole and _ANGLES in whole):
        raise InputError(f"{path}: columns {', '.join(header) or '(none)'}: {expected}")
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        values = [value.strip() for value in line]
        if any(values) and len(values) != len(header):
            raise InputError(f"{path}: row {number}: {len(values)} values for {len(header)} columns")
        if any(values):
            rows.append((number, dict(zip(header, values, strict=True))))
    return rows


def _light(row: dict[str, str], folder: Path, where: str) -> _Light:
    name, *values = row.pop(_FILE), *row.values()
    file = folder / name
    if not name or not file.is_file():
        raise InputError(f"{where}: no such picture {name!r}")
    if AMBIENT in values:
        if any(value not in ("", AMBIENT) for value in values):
            raise InputError(f"{where}: {name} is ambient and has a light")
        return _Light(file, None, None)
    numbers = {column: _number(value, f"{where}: {column}") for column, value in row.items()}
    place = np.array([numbers[c] for c in _PLACE], np.float32) if _PLACE[0] in row else None
    if _ANGLES[0] in row:
        azimuth, elevation = (numbers[c] for c in _ANGLES)
        if abs(azimuth) > 360 or abs(elevation) > 90:
            raise InputError(
                f"{where}: azimuth {azimuth:g}, elevation {elevation:g}: expected at most 360 and 90 degrees"
            )
        towards = direction(azimuth, elevation)
    else:
        towards = _unit([numbers[c] for c in (_VECTOR if _VECTOR[0] in row else _PLACE)], where)
    if place is not None and (apart := float(angle_deg(_unit(place, where), towards))) > _AGREE_DEG:
        raise InputError(f"{where}: the lamp is {apart:.0f} degrees off its direction")
    return _Light(file, towards, place)


def _number(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise InputError(f"{where}: {text!r} is no finite number")
    return value


def _unit(vector: list[float] | NDArray[np.float32], where: str) -> NDArray[np.float32]:
    unit = normalise(vector)
    if not unit.any():
        raise InputError(f"{where}: a direction of no length")
    return unit


def _check(rows: list[_Light], path: Path) -> None:
    seen: set[Path] = set()
    for row in rows:
        if row.file.resolve() in seen:
            raise InputError(f"{path}: {row.file.name} is named twice")
        seen.add(row.file.resolve())
    ambient = sum(row.direction is None for row in rows)
    if ambient > 1:
        raise InputError(f"{path}: {ambient} ambient pictures, expected one at most")
    if ambient == len(rows):
        raise InputError(f"{path}: no picture under a light")
