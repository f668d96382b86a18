"""The commands that use normals: relight, shade, enhance."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from casfne.console import RELEASE, Weights
from casfne.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from casfne.applied.geometry import Mesh
    from casfne.applied.lighting import Light

apply_app = typer.Typer()
Source = Annotated[str, typer.Argument(help="A photograph, or labels: their folder or one shard, local or of a store.")]
Where = Annotated[
    list[str] | None,
    typer.Option("--where", help='Of labels, those where a column compares so: "image_id == 000001"; repeatable.'),
]
Pictures = Annotated[Path, typer.Option("--out", help="Picture to write; of labels, the folder for a PNG an image.")]
Azimuth = Annotated[float, typer.Option(help="Of the light, degrees, positive to the picture's right.")]
Elevation = Annotated[float, typer.Option(help="Of the light, degrees, positive up.")]
Strength = Annotated[float, typer.Option(min=0, help="Of the light; 1 is as bright as a face is on average.")]
Fill = Annotated[float, typer.Option(min=0, help="Even light from all round besides.")]
Environment = Annotated[
    Path | None, typer.Option(help="Panorama (.hdr, .png, .jpg, .webp) that lights instead of the one light.")
]


class _Face(NamedTuple):
    """A face in the pixels of its photograph: its number there, normals [h, w, 3] and mask [h, w] in its window."""

    number: int
    normals: Any
    mask: Any
    window: tuple[slice, slice]


@apply_app.command()
def relight(
    source: Source,
    out: Pictures,
    azimuth: Azimuth = 40.0,
    elevation: Elevation = 20.0,
    strength: Strength = 1.2,
    fill: Fill = 0.15,
    environment: Environment = None,
    where: Where = None,
    weights: Weights = RELEASE,
) -> None:
    """Photographs with their faces under another light; what lies off the faces stays as it is.

    Prints of each face how much of the photograph its normals leave unexplained: a quality that needs no truth. A face
    that tells no light (dark, saturated, tiny) stays as it is, and of labels a photograph that is gone is left out; the
    rest is written, and the command exits with 1.

    Example: casfne relight photo.jpg --out relit.png --azimuth -50 --elevation 30
    """
    from casfne.images import write_image

    light = _light(azimuth, elevation, strength, fill, environment)
    kept = []
    for path, rows in _photographs(source, out, weights, where):
        try:
            photo = _photo(rows)
        except InputError as error:
            kept.extend([str(error)] * len(rows))
            continue
        relit = photo.copy()
        for face in _faces(rows):
            try:
                said = f"{_relit(photo, relit, face, light):.1%} of its light unexplained"
            except ValueError as error:
                said = f"as it was, {error}"
                kept.append(f"{rows['path'].iloc[0]}: face {face.number}: {error}")
            print(f"{path}: face {face.number}, {said}")
        write_image(path, relit)
    if kept:
        raise InputError(f"{len(kept)} faces are not relit; {kept[0]}")


@apply_app.command()
def shade(
    source: Source,
    out: Pictures,
    azimuth: Azimuth = 40.0,
    elevation: Elevation = 20.0,
    strength: Strength = 1.0,
    fill: Fill = 0.0,
    environment: Environment = None,
    where: Where = None,
    weights: Weights = RELEASE,
) -> None:
    """Faces as a matte white surface of their normals under a light, black elsewhere.

    Example: casfne shade photo.jpg --out shaded.png --environment sky.hdr
    """
    import numpy as np

    from casfne.applied.relight import picture
    from casfne.images import write_image

    light = _light(azimuth, elevation, strength, fill, environment)
    for path, rows in _photographs(source, out, weights, where):
        canvas = np.zeros((int(rows["source_height"].iloc[0]), int(rows["source_width"].iloc[0]), 3), np.uint8)
        for face in _faces(rows):
            canvas[face.window][face.mask] = picture(light.shading(face.normals[face.mask]))
        write_image(path, canvas)
        print(f"{path}: {len(rows)} faces")


@apply_app.command()
def enhance(
    source: Source,
    out: Annotated[Path, typer.Option("--out", help="Mesh to write, .obj or .ply.")],
    mesh: Annotated[
        str,
        typer.Option(
            help="Base: head (the project's mean head, turned as the normals are), depth (the surface that the normals "
            "integrate to), or an OBJ or PLY file in the pixels of the 256x256 crop, y up."
        ),
    ] = "head",
    where: Where = None,
    weights: Weights = RELEASE,
) -> None:
    """A base mesh of one face, refined so that its rendered normals follow the predicted ones.

    Of an image's faces the largest counts; of labels, --where has to leave one image. The mesh written is in pixels of
    the face's 256x256 crop: x right, y up from the lower left pixel, z towards the camera. Prints the angle to the
    normals before and after.

    Example: casfne enhance photo.jpg --out face.ply
    """
    from casfne import table
    from casfne.applied.geometry import check_suffix, refine, write_mesh

    check_suffix(out)
    images = list(islice(_photographs(source, Path("face.png"), weights, where), 2))
    if len(images) > 1:
        raise InputError(f"{source}: several images match, --where has to leave one")
    row = images[0][1].iloc[0]
    normals, mask = table.normals(row), table.mask(row)
    base = _base(mesh, normals, mask)
    try:
        made = refine(base, normals, mask)
    except ValueError as error:
        raise InputError(f"{mesh}: {error}") from None
    write_mesh(out, made.mesh)
    size = f"{len(made.mesh.vertices)} vertices, {len(made.mesh.triangles)} triangles"
    print(f"{out}: {size}; {made.before_deg:.2f} deg from the normals before, {made.after_deg:.2f} after")
    print(f"the mesh shows in {made.share:.1%} of the mask")


def _base(name: str, normals: Any, mask: Any) -> "Mesh":
    from casfne.applied import geometry, heads

    if name == "head":
        return heads.mean_head(normals, mask)
    return geometry.from_depth(normals, mask) if name == "depth" else geometry.read_mesh(Path(name))


def _light(azimuth: float, elevation: float, strength: float, fill: float, environment: Path | None) -> "Light":
    from casfne.applied.lighting import Light

    if environment is not None:
        return Light.panorama(environment).times(strength)
    return Light.directional(azimuth, elevation, strength, fill)


def _photographs(
    source: str, out: Path, weights: Path, where: list[str] | None
) -> "Iterator[tuple[Path, pd.DataFrame]]":
    """Each photograph: where its result goes, and the rows of its faces, largest first; InputError where there is
    none."""
    from casfne.images import SUFFIXES, check_picture

    if Path(source).suffix.lower() in SUFFIXES:
        if where:
            raise InputError("--where chooses among labels; a photograph has none")
        check_picture(out)
        yield out, _labelled(source, weights)
    else:
        yield from _read(source, out, where)


def _read(source: str, out: Path, where: list[str] | None) -> "Iterator[tuple[Path, pd.DataFrame]]":
    from casfne import table
    from casfne.ask import condition
    from casfne.labelling.exports import file_name
    from casfne.labelling.paste import NEEDED

    wanted = [("status", "==", "ok"), *(condition(text) for text in where or [])]
    keys = table.read(source, ["corpus", "image_id"], wanted).drop_duplicates()
    if keys.empty:
        raise InputError(f"{source}: no labelled face matches")
    for corpus, image_id in keys.itertuples(index=False):
        these = [("corpus", "==", corpus), ("image_id", "==", image_id), *wanted]
        rows = table.read(source, ["corpus", "image_id", "path", "face_index", *NEEDED], these)
        yield out / f"{file_name(rows.iloc[0], face=False)}.png", rows.sort_values("face_index")


def _labelled(photo: str, weights: Path) -> "pd.DataFrame":
    """A photograph's faces as rows of labels. InputError where it is none, or shows none."""
    import pandas as pd

    from casfne import load
    from casfne.corpora.record import Photo
    from casfne.labelling import faces
    from casfne.labelling import label as steps

    options = steps.Options("octahedral")
    predictor = load(weights)
    found = steps.decode(Photo("photo", Path(photo).name, photo), faces.Dlib())
    labelled = steps.predict(found, predictor, 8, options)
    rows = pd.DataFrame([steps.to_row(one, steps.Identity.of(predictor), options) for one in labelled])
    if (failed := rows[rows["status"] != "ok"]).size:
        raise InputError(f"{photo}: {failed['reason'].iloc[0]}")
    return rows


def _photo(rows: "pd.DataFrame") -> Any:
    """The upright photograph, uint8 [H, W, 3], that rows are of. InputError where it is not what was labelled."""
    from casfne.corpora.record import photo_bytes
    from casfne.images import decode_image

    path, size = rows["path"].iloc[0], (rows["source_height"].iloc[0], rows["source_width"].iloc[0])
    photo = decode_image(photo_bytes(path), path).copy()
    if photo.shape[:2] != size:
        raise InputError(f"{path}: {photo.shape[1]}x{photo.shape[0]} pixels, labelled as {size[1]}x{size[0]}")
    return photo


def _faces(rows: "pd.DataFrame") -> Iterator[_Face]:
    """Each face cut out, so that a photograph with many does not cost its whole size for each."""
    from casfne.images import Crop
    from casfne.labelling.paste import crop_of, paste

    for number in range(len(rows)):
        row = rows.iloc[[number]].copy()
        crop = crop_of(row["crop_to_image"].iloc[0])
        height, width = int(row["source_height"].iloc[0]), int(row["source_width"].iloc[0])
        top, left = max(crop.top, 0), max(crop.left, 0)
        window = slice(top, min(crop.top + crop.side, height)), slice(left, min(crop.left + crop.side, width))
        row["crop_to_image"] = [Crop(crop.left - left, crop.top - top, crop.side).transform().ravel().tolist()]
        row["source_height"], row["source_width"] = (side.stop - side.start for side in window)
        normals = paste(row)
        yield _Face(int(row["face_index"].iloc[0]), normals, normals.any(-1), window)


def _relit(photo: Any, relit: Any, face: _Face, light: "Light") -> float:
    """Put one face of ``photo`` under ``light`` into ``relit``, both uint8 [H, W, 3]; what its fit leaves unexplained.
    Each is told by the photograph as it was taken, also where two meet. ValueError as `applied.lighting.fit`."""
    from casfne.applied.relight import SOFT, Relightable, linear, picture

    taken = Relightable.of(photo[face.window], face.normals, face.mask, SOFT)
    relit[face.window] = picture(taken.under(light, linear(relit[face.window])))
    return taken.fit.residual
