"""The Photoface database: `<subject, 4 digits>/<session, YYYY-MM-DD_HH-MM-SS>/`, four pictures under four lights.

A session holds im0.bmp .. im3.bmp and LightSource.m; most also metadata.txt (11 face points) and metadataII.txt (who
and what is seen), and some what the owner's tools made: sn.mat and albedo.mat.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from casfne.errors import InputError
from casfne.stereo.authors import Floats, read_albedo, read_normals
from casfne.stereo.captures import NOTES, Capture, full_scale, stack, with_lamps_at
from casfne.stereo.lights import read_light_source

IMAGES = tuple(f"im{i}.bmp" for i in range(4))
LIGHTS, POINTS, ATTRIBUTES, NORMALS, ALBEDO = (
    "LightSource.m",
    "metadata.txt",
    "metadataII.txt",
    "sn.mat",
    "albedo.mat",
)
FILES = (*IMAGES, LIGHTS, POINTS, ATTRIBUTES, NORMALS, ALBEDO)
"""All that is read of a session."""

# the fields of metadataII.txt, in order, and what the database says in them
FIELDS = {
    "gender": ("male", "female"),
    "spectacles": ("no", "yes"),
    "facial_hair": ("none", "beard", "moustache", "both", "stubble"),
    "pose": ("1", "2", "3", "4", "5"),  # frontal to profile
    "quality": ("ok", "blur", "dark"),
    "occlusion": ("Mobile Phone", "hand", "hair", "-other"),
    "emotion": ("blankstare", "positive", "negative", "emoOther", "mouth ajar", "eyes closed", "-other"),
}
MORE = "more"  # the attribute of fields beyond these
ATTRIBUTE_NAMES = (*FIELDS, MORE, NOTES)
"""All that a session's attributes may be called."""

_SUBJECT, _SESSION = re.compile(r"\d{4}"), re.compile(r"\d{4}-\d{2}-\d{2}_\d{2}-\d{2}-\d{2}")


@dataclass(frozen=True)
class Found:
    """Sessions of a tree, sorted, and the folders that look like one and cannot be used, with the reason."""

    sessions: list[Path]
    rejected: dict[Path, str]


def find_sessions(root: Path | str) -> Found:
    """The sessions of a Photoface tree; pictures are not opened. Hidden folders are passed over.

    A folder looks like a session when it lies two levels deep and bears a session's name or holds some of its files.
    InputError when there is no such folder below ``root``.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"{root}: no such folder, expected a Photoface tree <subject>/<session>")
    candidates = [folder for subject in _folders(root) for folder in _folders(subject) if _is_candidate(folder)]
    if not candidates:
        raise InputError(f"{root}: no session <4 digits>/<YYYY-MM-DD_HH-MM-SS> in it")
    reasons = {folder: _unusable(folder) for folder in candidates}
    return Found(
        [folder for folder, reason in reasons.items() if not reason],
        {folder: reason for folder, reason in reasons.items() if reason},
    )


def looks_like_photoface(folder: Path) -> bool:
    """Whether it holds lights or a picture under the database's names."""
    return any((folder / name).exists() for name in (LIGHTS, *IMAGES))


def _folders(parent: Path) -> list[Path]:
    return sorted(d for d in parent.iterdir() if d.is_dir() and not d.name.startswith("."))


def _is_candidate(folder: Path) -> bool:
    return bool(_SESSION.fullmatch(folder.name)) or looks_like_photoface(folder)


def _unusable(folder: Path) -> str:
    """Why a folder that looks like a session is none; empty where nothing speaks against it."""
    if not _SUBJECT.fullmatch(folder.parent.name):
        return f"its subject {folder.parent.name!r} is not 4 digits"
    if not _SESSION.fullmatch(folder.name):
        return f"its name {folder.name!r} is not YYYY-MM-DD_HH-MM-SS"
    missing = _missing(folder)
    return f"incomplete session, no {', '.join(missing)}" if missing else ""


def _missing(folder: Path) -> list[str]:
    return [name for name in (*IMAGES, LIGHTS) if not (folder / name).is_file()]


def read_photoface(folder: Path | str, light_distance_m: float | None = None) -> Capture:
    """A Photoface session; its images are taken as linear.

    light_distance_m: of the lamps from the middle of the face; None: far away. What of metadataII.txt, sn.mat and
    albedo.mat cannot be used is named in the attribute ``notes`` and left out.
    InputError naming what else is missing or cannot be read.
    """
    folder = Path(folder)
    if missing := _missing(folder):
        raise InputError(f"{folder}: incomplete session, no {', '.join(missing)}")
    lights = read_light_source(folder / LIGHTS)
    images = stack([folder / name for name in IMAGES])
    height, width = images.shape[1:3]
    points = read_points(folder / POINTS, height, width) if (folder / POINTS).is_file() else None
    attributes, results = read_attributes(folder), _authors(folder, height, width)
    notes = "; ".join(note for note in (attributes.get(NOTES), *results.notes) if note)
    return with_lamps_at(
        Capture(
            name=f"{folder.absolute().parent.name}_{folder.name}",
            images=images,
            lights=lights,
            white=full_scale(images),
            points=points,
            attributes=attributes | ({NOTES: notes} if notes else {}),
            authors_normals=results.normals,
            authors_albedo=results.albedo,
        ),
        light_distance_m,
    )


@dataclass(frozen=True)
class _Results:
    normals: Floats | None
    albedo: Floats | None
    notes: list[str]


def _authors(folder: Path, height: int, width: int) -> _Results:
    found: dict[str, Floats] = {}
    notes = []
    for name, read in ((NORMALS, read_normals), (ALBEDO, read_albedo)):
        if not (folder / name).is_file():
            continue
        try:
            array = read(folder / name)
            if array.shape[:2] != (height, width):
                size = f"{array.shape[1]}x{array.shape[0]}"
                raise InputError(f"{folder / name}: {size} values, but the pictures have {width}x{height}")
            found[name] = array
        except InputError as error:
            notes.append(str(error).removeprefix(f"{folder}/"))
    return _Results(found.get(NORMALS), found.get(ALBEDO), notes)


def read_points(path: Path | str, height: int, width: int) -> NDArray[np.float64]:
    """The 11 face points of metadata.txt, float64 [11, 2] as x, y in pixels of a picture of that size.

    InputError naming the file: words, another count, a point outside the picture, eyes, or forehead and chin, at one
    place.
    """
    text = Path(path).read_text(encoding="latin-1")
    try:
        values = np.array([float(v) for v in re.split(r"[\s,;]+", text) if v])
    except ValueError:
        raise InputError(f"{path}: expected x and y of 11 points, found words") from None
    if values.size != 22:
        raise InputError(f"{path}: expected x and y of 11 points, found {values.size} numbers")
    points = values.reshape(11, 2)
    inside = ((points > -1) & (points < (width, height))).all(-1)  # not a number: outside
    if not inside.all():
        x, y = points[~inside][0]
        raise InputError(
            f"{path}: point {int(inside.argmin()) + 1} at {x:g}, {y:g} is outside the {width}x{height} picture"
        )
    pairs = {"the eyes": (points[:2].mean(0), points[3:5].mean(0)), "forehead and chin": (points[2], points[10])}
    for what, (one, other) in pairs.items():
        if np.linalg.norm(one - other) < 1:
            raise InputError(f"{path}: {what} are at one place, {one[0]:g}, {one[1]:g}")
    return points


def five_points(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Photoface's 11 points as the five of the crop convention: eyes, nose tip, mouth corners, [5, 2].

    Eyes and mouth corners are ordered by x, so that "left" is the picture's whatever the file meant.
    """
    eyes = sorted([points[:2].mean(0), points[3:5].mean(0)], key=lambda p: float(p[0]))
    mouth = sorted(points[8:10], key=lambda p: float(p[0]))
    return np.stack([*eyes, points[6], *mouth])


def read_attributes(folder: Path | str) -> dict[str, str]:
    """What metadataII.txt says, by the names of ``FIELDS``; empty fields and, without the file, all are left out.

    Words of the database come in its own spelling, others as they are. ``more`` holds fields beyond the last, with
    commas; ``notes`` says what is odd about the file. Never an error: what the session is worth does not hang on it.
    """
    path = Path(folder) / ATTRIBUTES
    if not path.is_file():
        return {}
    try:
        text = path.read_bytes().decode("latin-1").removeprefix("ï»¿")  # a byte order mark
    except OSError as error:
        return {NOTES: f"{ATTRIBUTES}: cannot be read ({error.strerror})"}
    lines = [line for line in text.splitlines() if line.strip()]
    if "\0" in text or not lines:
        return {NOTES: f"{ATTRIBUTES}: {'not text' if lines else 'empty'}"}
    values = [value.strip() for value in lines[0].split(",")]
    named = {name: _spelled(name, value) for name, value in zip(FIELDS, values, strict=False) if value}
    more = ",".join(values[len(FIELDS) :]).strip(",")
    oddities = [
        *([f"{len(lines)} lines"] if len(lines) > 1 else []),
        *([f"{len(values)} fields, expected {len(FIELDS)} or more"] if len(values) < len(FIELDS) else []),
        *(f"unknown {name} {value!r}" for name, value in named.items() if value not in FIELDS[name]),
    ]
    notes = {NOTES: f"{ATTRIBUTES}: {', '.join(oddities)}"} if oddities else {}
    return named | ({MORE: more} if more else {}) | notes


def _spelled(name: str, value: str) -> str:
    known = {word.lower(): word for word in FIELDS[name]}
    return known.get(value.lower(), value)
