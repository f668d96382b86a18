"""The commands that read labels: query, show, paste, export-labels, schema."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from casfne.console import Out
from casfne.errors import InputError

ask_app = typer.Typer()
Labels = Annotated[str, typer.Argument(help="Folder of labels, or one shard; local, s3:// or gs://.")]
Where = Annotated[
    list[str] | None,
    typer.Option("--where", help='Keep rows where a column compares so, as in "roughness_deg > 5"; repeat for more.'),
]


@ask_app.command()
def query(
    labels: Labels,
    where: Where = None,
    columns: Annotated[str, typer.Option(help="Columns to print, with commas.")] = "corpus,image_id,face_index,status",
    sort: Annotated[str | None, typer.Option(help="Column to sort by; -column: largest first.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Rows to print.")] = 20,
    csv: Annotated[bool, typer.Option("--csv", help="Print all rows as CSV.")] = False,
) -> None:
    """Rows of labels that match; without options also a summary of each corpus.

    Example: casfne query out/portraits --where "status == ok" --sort -roughness_deg --limit 5
    """
    from casfne import schema, table

    names = [name.strip() for name in columns.split(",")]
    key = sort.removeprefix("-") if sort else None
    if key in schema.COLUMNS and str(schema.COLUMNS[key][0]).startswith(("binary", "list", "struct")):
        raise InputError(f"--sort {sort}: {key} has no order, expected a column of numbers or text")
    frame = _read(labels, [*names, key] if key and key not in names else names, where)
    if key:
        frame = frame.sort_values(key, ascending=not str(sort).startswith("-"))
    if csv:
        print(frame[names].to_csv(index=False), end="")
        return
    print(frame[names].head(limit).to_string(index=False))
    print(f"{min(limit, len(frame))} of {len(frame)} rows")
    if not where and not sort:
        print(table.summary(_read(labels, None, None)).to_string())


@ask_app.command()
def show(
    labels: Labels,
    out: Annotated[Path, typer.Option("--out", help="The PNG to write.")],
    where: Where = None,
    limit: Annotated[int, typer.Option(min=1, help="Faces to show.")] = 8,
) -> None:
    """A picture of labelled faces: the crop, its normals, and a matte face of that shape under a light.

    Crops are cut again from the images that the rows name; one that is gone is left grey.

    Example: casfne show out/portraits --out out/portraits.png --where "confidence_deg < 20"
    """
    from casfne.images import check_picture, write_image
    from casfne.report.faces import KEY, pictured
    from casfne.report.figures import label_figure

    check_picture(out)
    frame = pictured(labels, _read(labels, KEY, ["status == ok", *(where or [])]).head(limit))
    if frame.empty:
        raise InputError(f"{labels}: no labelled face matches")
    write_image(out, label_figure(frame))
    print(f"{out}: {len(frame)} faces")


@ask_app.command("paste")
def paste_labels(labels: Labels, out: Out, where: Where = None) -> None:
    """Normals put back into the pixels of their photographs, a PNG an image.

    Example: casfne paste out/portraits --out out/pasted
    """
    from casfne.labelling.paste import paste_all

    count = sum(1 for _ in paste_all(labels, out, [condition(text) for text in where or []]))
    print(f"{out}: {count} images")


@ask_app.command()
def export_labels(
    labels: Labels,
    out: Out,
    kind: Annotated[str, typer.Option(help="png, png16, exr, npy or hf.")] = "png",
    frame: Annotated[str, typer.Option(help="opengl, directx, opencv or sfs.")] = "opengl",
    where: Where = None,
) -> None:
    """Normals of labelled faces as files of another kind, a shard at a time.

    Example: casfne export-labels out/portraits --out out/npy --kind npy
    """
    from casfne import schema, table
    from casfne.labelling.exports import export

    columns = [name for name in schema.COLUMNS if name not in ("stages", "relit")]
    matching = [("status", "==", "ok"), *(condition(text) for text in where or [])]
    print(f"{out}: {len(export(table.pieces(labels, columns, matching), out, kind, frame))} files")


@ask_app.command("schema")
def schema_(csv: Annotated[bool, typer.Option("--csv", help="Columns alone, as CSV.")] = False) -> None:
    """The columns of labels: name, type, meaning; then the reasons of rows that are not ok.

    Example: casfne schema
    """
    import pandas as pd

    from casfne import schema

    columns = pd.DataFrame(schema.dictionary(), columns=["name", "type", "meaning"])
    if csv:
        print(columns.to_csv(index=False), end="")
        return
    for name, kind, meaning in columns.itertuples(index=False):
        print(f"{name:18s} {kind:14s} {meaning}")
    print()
    for code, reason in schema.REASONS.items():
        again = "; --retry-errors makes it again" if reason.can_pass else ""
        print(f"{code:18s} {reason.status:14s} {reason.meaning}{again}")


def _read(labels: str, columns: list[str] | None, where: list[str] | None) -> Any:
    from casfne import table

    try:
        return table.read(labels, columns, [condition(text) for text in where] if where else None)
    except ValueError as error:
        raise InputError(str(error)) from None


def condition(text: str) -> tuple[str, str, Any]:
    """ "roughness_deg > 5" as ("roughness_deg", ">", 5.0); InputError for another form or an unknown column."""
    from casfne import schema

    found = re.fullmatch(r"\s*(\w+)\s*(==|!=|<=|>=|<|>)\s*(.+?)\s*", text)
    if not found:
        raise InputError(f"--where {text!r}: expected COLUMN OPERATOR VALUE, as in 'roughness_deg > 5'")
    column, operator, value = found.groups()
    if column not in schema.COLUMNS:
        raise InputError(f"--where {text!r}: no column {column!r}, expected one of {', '.join(schema.COLUMNS)}")
    kind = str(schema.COLUMNS[column][0])
    words = {"string": "text", "bool": "true or false"}
    if kind in words and operator not in ("==", "!="):
        raise InputError(f"--where {text!r}: {column} is {words[kind]}, which compares by == or != alone")
    if kind == "string":
        return column, operator, value.strip("'\"")
    if kind == "bool":
        if value.lower() not in ("true", "false"):
            raise InputError(f"--where {text!r}: {column} is {words[kind]}, not {value!r}")
        return column, operator, value.lower() == "true"
    try:
        return column, operator, int(value) if kind.startswith("int") else float(value)
    except ValueError:
        raise InputError(f"--where {text!r}: {value!r} is no number, and {column} is one") from None
