"""Which corpora there are, by name."""

import os
from collections.abc import Callable, Sequence

from casfne.corpora import celeba, celebamask, ffhq, folder, tables, tars, w300
from casfne.corpora.record import Photo, require
from casfne.errors import InputError

READERS: dict[str, Callable[[str], list[Photo]]] = {
    "celeba": celeba.read,
    "celeba_wild": celeba.read_wild,
    "celebamask": celebamask.read,
    "ffhq": ffhq.read,
    "ffhq_thumbnails": ffhq.read_thumbnails,
    "300w": w300.read,
    "tar": tars.read,
    "parquet": tables.read,
    "folder": folder.read,
}


def open_corpus(name: str, root: str | os.PathLike[str]) -> list[Photo]:
    """The pictures of corpus ``name`` (a key of ``READERS``) below ``root``, a folder, an archive or a URI, in a fixed
    order.

    Raises InputError: an unknown name, no such folder, no landmarks file, no pictures, lists that make no sense.
    """
    if name not in READERS:
        raise InputError(f"unknown corpus {name!r}: expected one of {', '.join(READERS)}")
    return READERS[name](require(os.fspath(root), "folder or archive"))


def open_inputs(inputs: Sequence[str | os.PathLike[str]], corpus: str = "folder") -> list[Photo]:
    """What the command line was given: any pictures, or the one root of a corpus. URIs come as text: a Path would take
    a slash out of them. Raises InputError."""
    if corpus == "folder":
        return folder.read_all([os.fspath(one) for one in inputs])
    if len(inputs) != 1:
        raise InputError(f"corpus {corpus!r}: expected one root folder, got {len(inputs)} inputs")
    return open_corpus(corpus, inputs[0])
