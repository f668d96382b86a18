"""The authors' prepared copies of Photoface: faces cut out already, with normals and a mask beside them.

A session lies in a folder of its own, in one of two ways, or in the second way beside others:

    <any>.png ...     faces                                <name>_crop.jpg ...   faces
    sn_c.png          normals, 8 or 16 bits                <name>_sn.npy         normals, float [H, W, 3]
    mask_c.png        mask                                 <name>_mask.png       mask

A `_sn.npy` belongs to the face of its name; where it is the only one and there is none, to all faces of its folder.
Normals are stored as (down, right, out), frame `sfs`. Faces are taken as they are: 8 bits, whatever their encoding.
"""

import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from casfne.corpora.samples import Record, Row, write_archive
from casfne.errors import InputError
from casfne.files import read_array
from casfne.images import SIZE, centre_crop, read_grey, read_image, read_pixels
from casfne.normals import convert, normalise, recognise_frame
from casfne.provenance import code_version, file_sha256, fingerprint
from casfne.stereo.photoface import ATTRIBUTE_NAMES, ATTRIBUTES, read_attributes

STORED = "sfs"  # the frame of their normals
CODE = (
    "corpora/prepared.py",
    "corpora/samples.py",
    "stereo/photoface.py",
    "images.py",
    "normals.py",
)  # what decides an archive

_FACE, _NORMALS, _MASK = "_crop.jpg", "_sn.npy", "_mask.png"
_NORMALS_PNG, _MASK_PNG = "sn_c.png", "mask_c.png"
_SURE = 0.3  # of another frame: a face's normals that are so sure to be in one are not taken for `sfs`


@dataclass(frozen=True)
class Copy:
    """One session: the faces that share one normal map and one mask."""

    subject: str
    session: str
    faces: tuple[Path, ...]
    normals: Path
    mask: Path

    @property
    def folder(self) -> Path:
        """Where its files lie."""
        return self.normals.parent


@dataclass(frozen=True)
class FoundCopies:
    """Prepared sessions of a tree, sorted, and files that look like one and cannot be used, with the reason."""

    copies: list[Copy]
    rejected: dict[Path, str]


def find_prepared(root: Path | str) -> FoundCopies:
    """Every prepared session below ``root``, at any depth, by the files' names; no picture is opened.

    Who is seen is told by the last folder whose name is four digits, else by the four digits before an underscore
    that the session's name begins with, else by the first folder below ``root``.
    """
    root = Path(root)
    copies: list[Copy] = []
    rejected: dict[Path, str] = {}
    for base, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        folder = Path(base)
        for stem, faces, normals, mask in _groups(sorted(names)):
            missing = [name for name in (*faces, normals, mask) if name not in names]
            who = _who((folder / stem).relative_to(root).parts)
            if missing or not faces:
                rejected[folder / stem] = f"prepared session, no {', '.join(missing) or 'face'}"
            elif who is None:
                rejected[folder / stem] = (
                    "prepared session of nobody: no four digits in its path, no folder above its own"
                )
            else:
                paths = tuple(folder / name for name in faces)
                copies.append(Copy(*who, paths, folder / normals, folder / mask))
    return FoundCopies(copies, rejected)


def _groups(names: Sequence[str]) -> Iterator[tuple[str, list[str], str, str]]:
    """Stem, faces, normals and mask of each session in a folder of these files; not all of them need be there."""
    if _NORMALS_PNG in names or _MASK_PNG in names:
        faces = [n for n in names if n.lower().endswith(".png") and n not in (_NORMALS_PNG, _MASK_PNG)]
        yield "", faces, _NORMALS_PNG, _MASK_PNG
        return
    of_faces, of_normals, of_masks = (
        [n.removesuffix(end) for n in names if n.endswith(end)] for end in (_FACE, _NORMALS, _MASK)
    )
    if len(of_normals) == 1 and of_normals[0] not in of_faces:
        [stem] = of_masks if len(of_masks) == 1 else of_normals
        yield "", [n + _FACE for n in of_faces], of_normals[0] + _NORMALS, stem + _MASK
        return
    for stem in sorted({*of_faces, *of_normals}):
        yield stem, [stem + _FACE], stem + _NORMALS, stem + _MASK


def _who(parts: Sequence[str]) -> tuple[str, str] | None:
    """Subject and session at this path below the root; None where it does not say."""
    persons = [i for i, part in enumerate(parts) if re.fullmatch(r"\d{4}", part)]
    if persons:
        return parts[persons[-1]], "_".join(parts[persons[-1] + 1 :]) or "0"
    if parts and re.match(r"\d{4}_.", parts[-1]):
        return parts[-1][:4], parts[-1][5:]
    return (parts[0], "_".join(parts[1:])) if len(parts) > 1 else None


def prepare_copy(copy: Copy, out: Path) -> list[Row]:
    """Write one prepared session as an archive into ``out``, and give its rows of the index, one for each face.

    The middle square, at 256x256; trust is 1 on the mask; the albedo is not known. InputError: a picture that cannot
    be read or of another size, no unit normals, normals that are surely in another frame than `sfs`, an empty mask.
    """
    start, made_of = time.perf_counter(), copy_fingerprint(copy)
    faces, normals, mask = _read(copy)
    crop = centre_crop(*mask.shape)
    known = mask & (normals != 0).any(-1)
    inside = crop.apply(known.astype(np.float32)) > 0.99
    if inside.sum() < 3:
        raise InputError(f"{copy.mask}: no pixel of a face in its middle square")
    frame, certainty = recognise_frame(normals, known)
    if frame != STORED and certainty > _SURE:
        raise InputError(f"{copy.normals}: normals of a face in frame {frame}, expected {STORED}")
    maps = {
        "normal": normalise(crop.apply(convert(normals * known[..., None], STORED))),
        "mask": inside,
        "trust": inside.astype(np.float32),
        "albedo": np.zeros((SIZE, SIZE), np.float32),
    }
    name, attributes = f"{copy.subject}_{copy.session}", read_attributes(copy.folder)
    common = {
        "subject": copy.subject,
        "session": copy.session,
        "source": "photoface-prepared",
        "coverage": float(inside.mean()),
        "mean_trust": 1.0,
        "archive": f"{name}.npz",
        "frame_stored": frame,
        "frame_certainty": certainty,
        **{key: attributes.get(key) for key in ATTRIBUTE_NAMES},
    }
    rows = [common | {"sample_id": f"{name}_{path.stem}", "light": i} for i, path in enumerate(copy.faces)]
    images = np.stack([crop.apply(face) for face in faces])
    write_archive(out / f"{name}.npz", images, maps, record=Record(made_of, rows, time.perf_counter() - start))
    return rows


def copy_fingerprint(copy: Copy) -> str:
    """Of all that decides a prepared session's archive: the content of its files, and code."""
    files = (*copy.faces, copy.normals, copy.mask, copy.folder / ATTRIBUTES)
    content = [[path.name, file_sha256(path)] for path in files if path.is_file()]
    return fingerprint([copy.subject, copy.session, content, code_version(*CODE)])


def _read(copy: Copy) -> tuple[list[NDArray[np.uint8]], NDArray[np.float32], NDArray[np.bool_]]:
    """Faces uint8 RGB, normals as they are stored (0 where there is none), mask; InputError for another size."""
    mask = read_grey(copy.mask) > 0.5
    normals = _read_png(copy.normals) if copy.normals.suffix == ".png" else _read_npy(copy.normals)
    faces = [read_image(path) for path in copy.faces]
    shapes = [normals.shape, *(face.shape for face in faces)]
    for path, (height, width, _) in zip((copy.normals, *copy.faces), shapes, strict=True):
        if (height, width) != mask.shape:
            raise InputError(
                f"{path}: {width}x{height} pixels, but {copy.mask.name} has {mask.shape[1]}x{mask.shape[0]}"
            )
    return faces, normals, mask


def _read_png(path: Path) -> NDArray[np.float32]:
    pixels = read_pixels(path)
    if pixels.shape[2] != 3:
        raise InputError(f"{path}: a grey picture, expected normals in three colours")
    return _units(pixels / np.float32(np.iinfo(pixels.dtype).max / 2) - 1)


def _read_npy(path: Path) -> NDArray[np.float32]:
    values = read_array(path)
    if values.ndim != 3 or values.shape[2] != 3 or values.dtype.kind != "f":
        raise InputError(f"{path}: expected floats [H, W, 3], got {values.dtype} {list(values.shape)}")
    values = np.where(np.isfinite(values).all(-1, keepdims=True), values, 0).astype(np.float32)
    if np.abs(values).max(initial=0) > 1.5:
        raise InputError(f"{path}: values up to {np.abs(values).max():g}, expected unit normals")
    return _units(values)


def _units(values: NDArray) -> NDArray[np.float32]:
    """Unit vectors; 0 where there is hardly any length: what is grey in a picture of normals is none."""
    return normalise(values) * (np.linalg.norm(values, axis=-1, keepdims=True) > 0.5)
