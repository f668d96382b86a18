"""Pictures in tar archives, as WebDataset writes them: files of one key, the name up to its first dot, belong together.

000017.jpg                  the picture
000017.json                 {"Male": true, ...}: its attributes, as far as they are text, numbers or truth values
000017.cls                  a whole number: the attribute `cls`
"""

import json
import os
from collections import defaultdict

from casfne import images, sources
from casfne.corpora.record import Found, Photo, Value, columns, named, read_text, rows
from casfne.errors import InputError

_BESIDE = 2**20  # bytes of what lies beside a picture


def read(root: str) -> list[Photo]:
    """Every picture of a tar archive, or of all those below a folder, archive by archive. InputError: no archive, one
    that is damaged, a member beside a picture that makes no sense."""
    archives = [root] if sources.is_archive(root) else list(sources.listing(root, {".tar"}).values())
    return named([one for archive in archives for one in find(archive)], "tar", root)


def find(archive: str) -> list[Found]:
    """The pictures of one archive with their attributes, sorted by name."""
    members = sources.listing(archive, images.SUFFIXES | {".json", ".cls"})
    pictures = {name: path for name, path in members.items() if _suffix(name) in images.SUFFIXES}
    said: dict[str, dict[str, Value]] = defaultdict(dict)
    for name, path in members.items():
        if name not in pictures:
            said[_key(name)] |= _said(path, _suffix(name))
    each = rows(columns([said.get(_key(name), {}) for name in pictures]), len(pictures))
    return [Found(name.removeprefix("./"), path, each[i]) for i, (name, path) in enumerate(pictures.items())]


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _key(name: str) -> str:
    folder, slash, file = name.rpartition("/")
    return folder + slash + file.partition(".")[0]


def _said(path: str, suffix: str) -> dict[str, Value]:
    text = read_text(path, _BESIDE)
    try:
        if suffix == ".cls":
            return {"cls": int(text)}
        return {str(k): v for k, v in dict(json.loads(text)).items() if isinstance(v, str | int | float | bool)}
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(
            f"{path}: expected {'a whole number' if suffix == '.cls' else 'an object'} ({error})"
        ) from None
