"""FFHQ: the aligned 1024x1024 pictures and their 68 points.

    images1024x1024/00000/00000.png
    ffhq-dataset-v2.json        {"0": {"image": {"file_path": ..., "face_landmarks": [[x, y], ... 68]}}, ...}

The points of "image" are in pixels of the aligned picture, from 0.
"""

import json
from pathlib import Path

from casfne.corpora.record import Photo, Points, checked, five_points, pictures, require
from casfne.errors import InputError


def read(root: Path) -> list[Photo]:
    """Every picture that the JSON names or the folder holds, sorted by path.

    A picture without points is left to a detector; one that is listed and missing stays, to be reported.
    Raises InputError naming the file: no JSON, no folder, an entry without path or 68 points.
    """
    listed = _landmarks(require(root / "ffhq-dataset-v2.json", "landmarks file"))
    folder = require(root / "images1024x1024", "folder of images")
    names = sorted(listed.keys() | {p.relative_to(root).as_posix() for p in pictures(folder)})
    photos = [Photo("ffhq", Path(name).stem, str(root / name), listed.get(name)) for name in names]
    return checked(photos, root)


def _landmarks(path: Path) -> dict[str, Points]:
    try:
        entries = json.loads(path.read_text("utf-8"))
        images = {key: entry["image"] for key, entry in entries.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not the JSON of FFHQ ({error!r})") from None
    points = {}
    for key, image in images.items():
        try:
            points[str(image["file_path"])] = five_points(image["face_landmarks"])
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}: entry {key!r}: {error}") from None
    return points
