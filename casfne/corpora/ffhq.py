"""FFHQ: the aligned 1024x1024 pictures or their thumbnails, and their 68 points.

    images1024x1024/00000/00000.png           or images1024x1024.zip, .tar
    thumbnails128x128/00000/00000.png         the same pictures, an eighth of the size
    ffhq-dataset-v2.json        {"0": {"category": "training", "image": {"file_path": ..., "face_landmarks": [[x, y],
                                ... 68]}, "metadata": {"license": ..., "country": ...}}, ...}

The points of "image" are in pixels of the aligned picture, from 0.
"""

import json
from typing import Any

from casfne import sources
from casfne.corpora.record import Photo, Points, Value, checked, columns, five_points, pictures_of, read_text, rows
from casfne.errors import InputError

_JSON = 2**30  # bytes; the real file has 255 million
_SCALE = 8  # of a picture's side to its thumbnail's


def read(root: str) -> list[Photo]:
    """Every picture that the JSON names or the folder holds, sorted by name.

    A picture without points is left to a detector; one that is listed and missing stays, to be reported.
    Attributes: `category` (training, validation), `license` and `country`, where the JSON says them.
    Raises InputError naming the file: no JSON, no folder, an entry without path or 68 points.
    """
    return _read(root, "ffhq", "images1024x1024")


def read_thumbnails(root: str) -> list[Photo]:
    """The thumbnails, as `read` does."""
    return _read(root, "ffhq_thumbnails", "thumbnails128x128")


def _read(root: str, corpus: str, folder: str) -> list[Photo]:
    thumbnails = corpus != "ffhq"
    path = sources.join(root, "ffhq-dataset-v2.json")
    if not sources.exists(path):
        raise InputError(f"{path}: no such landmarks file")
    listed = _entries(path)
    place, pictures = pictures_of(root, folder)
    names = sorted(pictures.keys() | listed.keys())
    said = rows(columns([listed[name][1] if name in listed else {} for name in names]), len(names))
    photos = []
    for name, attributes in zip(names, said, strict=True):
        points, _, folders = listed.get(name, (None, None, ""))
        if points is not None and thumbnails:
            points = (points + 0.5) / _SCALE - 0.5
        where = pictures.get(name) or sources.join(place, f"{folders}{name}")
        photos.append(
            Photo(corpus, sources.escape(name.rpartition(".")[0]), where, points=points, attributes=attributes)
        )
    return checked(photos, root)


def _entries(path: str) -> dict[str, tuple[Points, dict[str, Value], str]]:
    """By file name: the points, the attributes, and the folders below the one of all pictures."""
    try:
        entries = dict(json.loads(read_text(path, _JSON)))
        images = {key: entry["image"] for key, entry in entries.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: not the JSON of FFHQ ({error!r})") from None
    found = {}
    for key, image in images.items():
        try:
            folders, _, name = str(image["file_path"]).rpartition("/")
            inner = folders.partition("/")[2]
            if sources.climbs(image["file_path"]) or not name:
                raise ValueError(f"{image['file_path']!r} leads out of the folder")
            found[name] = five_points(image["face_landmarks"]), _said(entries[key]), f"{inner}/" if inner else ""
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path}: entry {key!r}: {error}") from None
    return found


def _said(entry: dict[str, Any]) -> dict[str, Value]:
    more = entry.get("metadata") or {}
    said = {"category": entry.get("category"), "license": more.get("license"), "country": more.get("country")}
    return {name: value for name, value in said.items() if isinstance(value, str) and value}
