"""Figures in the manner of the paper's 3, 4, 7 and 9: tiles in rows, printed as PNG and as PDF."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from casfne.applied.geometry import Mesh, rendered
from casfne.applied.lighting import Light
from casfne.applied.relight import SOFT, Relightable, picture
from casfne.errors import InputError
from casfne.files import atomic_open
from casfne.images import shade
from casfne.normals import direction, encode
from casfne.report.faces import Face
from casfne.report.figures import KEY_LIGHT, error_map

Tile = NDArray[np.uint8]
NEW_LIGHTS = ((-55, 15), (55, 15))  # of relit faces: azimuth, elevation
STRENGTH, FILL = 1.2, 0.15  # of theirs, and of what comes evenly from all round, as `casfne relight` has it
_INCH, _GAP, _BAR = 1.0, 0.03, 0.2  # side of a tile, between tiles, of the titles
_DPI = 256  # of PNG: a tile's own pixels


def stages_figure(faces: Sequence[Face]) -> Figure:
    """Fig. 3: a photograph a row, then normals and shading of every stage t. All must have as many stages."""
    _alike(faces)
    rows = [
        [f.photo, *(tile for n in f.stages for tile in (encode(n, f.mask), shade(n, KEY_LIGHT, f.mask)))] for f in faces
    ]
    return tiles(rows, ["Input", *(f"{kind}-{t}" for t in range(len(faces[0].stages)) for kind in "NS")])


def errors_figure(faces: Sequence[Face]) -> Figure:
    """Fig. 4: a photograph a row, its truth, then normals and error map of every stage t, 0 to 40 degrees."""
    _alike(faces)
    rows = []
    for f in faces:
        if f.truth is None:
            raise InputError(f"{f.name}: no truth, which a figure of errors needs")
        stages = [tile for n in f.stages for tile in (encode(n, f.mask), error_map(n, f.truth, f.known))]
        rows.append([f.photo, encode(f.truth, f.known), *stages])
    return tiles(
        rows, ["Input", "GT", *(f"{kind}{t}" for t in range(len(faces[0].stages)) for kind in ("N-", "Err. "))]
    )


def relit_figure(methods: Mapping[str, Sequence[Face]]) -> Figure:
    """Fig. 7: the same photographs by several methods, a row a photograph: of each method its normals, shading, and
    the photograph relit from the left and from the right."""
    if len({tuple(f.name for f in faces) for faces in methods.values()}) != 1:
        raise InputError(f"{', '.join(methods)}: other faces, expected the same of every method")
    rows = []
    for same in zip(*methods.values(), strict=True):
        rows.append([same[0].photo, *(tile for face in same for tile in _relit(face))])
    titles = [f"{name} {what}" for name in methods for what in ("N", "S", "left", "right")]
    return tiles(rows, ["Input", *titles])


def _relit(face: Face) -> list[Tile]:
    n = face.stages[-1]
    try:
        taken = Relightable.of(face.photo, n, face.mask, SOFT)
    except ValueError as error:
        raise InputError(f"{face.name}: cannot be relit ({error})") from None
    under = [picture(taken.under(Light.directional(*light, STRENGTH, FILL))) for light in NEW_LIGHTS]
    return [encode(n, face.mask), shade(n, KEY_LIGHT, face.mask), *under]


def geometry_figure(photo: Tile, meshes: Mapping[str, Mesh]) -> Figure:
    """Fig. 9: a photograph and meshes in the pixels of its picture (`casfne.applied.geometry`), as matte white clay
    from the front."""
    height, width = photo.shape[:2]
    if height != width:
        raise InputError(f"a photograph of {width}x{height}, expected a square one")
    clay = [_clay(*rendered(mesh, height, width)) for mesh in meshes.values()]
    return tiles([[photo, *clay]], ["Input", *meshes])


def _clay(depth: NDArray, normals: NDArray) -> Tile:
    seen = np.isfinite(depth)
    return np.where(seen[..., None], shade(normals, direction(20, 35), seen), 255).astype(np.uint8)


def _alike(faces: Sequence[Face]) -> None:
    if not faces:
        raise InputError("no face for the figure")
    if len({len(f.stages) for f in faces}) != 1:
        raise InputError("faces with different numbers of stages: label them with the same weights")


def tiles(rows: Sequence[Sequence[Tile]], titles: Sequence[str]) -> Figure:
    """Square tiles in rows, a title above each column."""
    step = _INCH + _GAP
    width, height = len(titles) * step - _GAP, len(rows) * step - _GAP + _BAR
    figure = Figure(figsize=(width, height), dpi=_DPI)
    for i, row in enumerate(rows):
        for j, tile in enumerate(row):
            bottom = height - _BAR - i * step - _INCH
            axes = figure.add_axes((j * step / width, bottom / height, _INCH / width, _INCH / height))
            axes.imshow(tile, interpolation="none")
            axes.set_axis_off()
    for j, title in enumerate(titles):
        figure.text((j * step + _INCH / 2) / width, 1 - 0.5 * _BAR / height, title, size=7, ha="center", va="center")
    return figure


def save(figure: Figure, out: Path) -> list[Path]:
    """The figure as ``out``.png and ``out``.pdf, with no date in them; the files written."""
    written = [out.with_name(out.name + kind) for kind in (".png", ".pdf")]
    for path in written:
        with atomic_open(path) as file:
            empty = {"CreationDate": None} if path.suffix == ".pdf" else {}
            figure.savefig(file, format=path.suffix[1:], metadata=empty)
    return written
