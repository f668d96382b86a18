"""The commands `casfne studio` and `casfne facekit`: thin over `casfne.capture`."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from casfne.console import Out, progress

studio_app = typer.Typer(help="Portraits from the capture studio, with exact normals.", no_args_is_help=True)
facekit_app = typer.Typer(help="The ICT-FaceKit face model.", no_args_is_help=True)
Count = Annotated[int, typer.Option(min=1, help="Portraits.")]
Seed = Annotated[int, typer.Option(help="Of the data set: the same seed and number give the same portrait.")]
Size = Annotated[int, typer.Option(min=16, help="Pixels of a side.")]
Supersample = Annotated[int, typer.Option(min=1, help="Rays a pixel along each side, for smooth edges.")]
Heads = Annotated[
    list[str],
    typer.Option("--heads", help="anny, or a head model's file (`casfne facekit import` makes one); repeat to mix."),
]
Photographs = Annotated[Path | None, typer.Option(help="Folder of your own pictures, for backgrounds.")]
Environments = Annotated[
    Path | None, typer.Option(help="Folder of panoramas (.hdr, .png, .jpg), as surroundings that light the faces.")
]


@studio_app.command()
def sheet(
    out: Annotated[Path, typer.Option("--out", help="PNG to write.")],
    count: Count = 48,
    seed: Seed = 7,
    size: Size = 128,
    heads: Heads = ["anny"],  # noqa: B006
    photographs: Photographs = None,
    environments: Environments = None,
    supersample: Supersample = 2,
) -> None:
    """A contact sheet of portraits, each beside its normals; prints what they are made of, in numbers.

    Example: casfne studio sheet --count 48 --seed 7 --out sheet.png
    """
    from casfne.capture.sheet import contact_sheet, statistics
    from casfne.images import check_picture, write_image

    check_picture(out)
    parts = list(_portraits(seed, count, size, heads, photographs, environments, supersample))
    whole = type(parts[0]).join(parts)
    write_image(out, contact_sheet(whole, columns=min(8, count)).numpy())
    print(json.dumps(statistics(whole), indent=2))


@studio_app.command()
def render(
    out: Out,
    count: Count,
    seed: Seed = 7,
    size: Size = 256,
    heads: Heads = ["anny"],  # noqa: B006
    photographs: Photographs = None,
    environments: Environments = None,
    supersample: Supersample = 2,
) -> None:
    """Portraits as a set of samples: an archive each, which training reads, and index.parquet, which comes last.

    Example: casfne studio render --count 16 --out out/portraits
    """
    from casfne.corpora.rendered import write_portrait
    from casfne.corpora.samples import INDEX, write_index

    (out / INDEX).unlink(missing_ok=True)  # it must not speak of portraits that are made anew
    rows: list[dict[str, Any]] = []
    with progress("render") as bar:
        task = bar.add_task("render", total=count)
        for part in _portraits(seed, count, size, heads, photographs, environments, supersample):
            rows += [write_portrait(out, seed, len(rows) + i, maps) for i, maps in enumerate(part.maps())]
            bar.update(task, completed=len(rows))
    write_index(out, rows)
    print(f"{out}: {len(rows)} portraits")


def _portraits(
    seed: int,
    count: int,
    size: int,
    heads: list[str],
    photographs: Path | None,
    environments: Path | None,
    supersample: int,
) -> Any:
    from casfne.capture.optics.framing import training_crop
    from casfne.capture.parallel import Order, rendered
    from casfne.capture.portraits import Setting

    setting = Setting(training_crop(size))
    return rendered(Order(heads, seed, count, setting, supersample, photographs=photographs, environments=environments))


@facekit_app.command("import")
def import_(
    clone: Annotated[Path, typer.Argument(help="A clone of the public ICT-FaceKit repository.")],
    out: Annotated[Path, typer.Option("--out", help="Head model to write (.npz).")],
) -> None:
    """ICT-FaceKit as a head model for the studio (`--heads`).

    Example: casfne facekit import ICT-FaceKit --out facekit.npz
    """
    from casfne.capture.people.facekit import import_facekit

    import_facekit(clone, out)
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB")
