"""Which corpora there are, by name."""

from collections.abc import Callable, Sequence
from pathlib import Path

from casfne.corpora import celeba, ffhq, folder, w300
from casfne.corpora.record import Photo, require
from casfne.errors import InputError

READERS: dict[str, Callable[[Path], list[Photo]]] = {
    "celeba": celeba.read,
    "ffhq": ffhq.read,
    "300w": w300.read,
    "folder": folder.read,
}


def open_corpus(name: str, root: Path | str) -> list[Photo]:
    """The pictures of corpus ``name`` (a key of ``READERS``) below ``root``, in a fixed order.

    Raises InputError: an unknown name, no such folder, no landmarks file, no pictures.
    """
    if name not in READERS:
        raise InputError(f"unknown corpus {name!r}: expected one of {', '.join(READERS)}")
    return READERS[name](require(Path(root), "folder"))


def open_inputs(inputs: Sequence[Path | str], corpus: str = "folder") -> list[Photo]:
    """What the command line was given: any pictures, or the one root of a corpus. Raises InputError."""
    if corpus == "folder":
        return folder.read_all(inputs)
    if len(inputs) != 1:
        raise InputError(f"corpus {corpus!r}: expected one root folder, got {len(inputs)} inputs")
    return open_corpus(corpus, inputs[0])
