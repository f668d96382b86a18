"""The `casfne` command: thin over the library. Commands print what they wrote and exit with 1 on bad input."""

import json
import logging
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.logging import RichHandler

from casfne import __version__
from casfne.apply import apply_app
from casfne.ask import ask_app, paste_labels
from casfne.board import board_app
from casfne.console import RELEASE, Out, Weights, progress
from casfne.errors import InputError, guard
from casfne.report_command import figure_app, report_app
from casfne.studio import facekit_app, studio_app
from casfne.truth import truth_app

app = typer.Typer(
    help="Surface normals of faces, from one image, at corpus scale.\n\n"
    "Frame of every normal: x right, y up, z towards the camera.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(ask_app)
app.add_typer(apply_app)
app.add_typer(board_app)
app.add_typer(truth_app)
app.add_typer(report_app)
app.add_typer(figure_app, name="figure")
app.add_typer(studio_app, name="studio")
app.add_typer(facekit_app, name="facekit")
log = logging.getLogger("casfne")


def main() -> None:
    """Entry point: InputError becomes one line on stderr and exit code 1."""
    guard(app)()


@app.callback(invoke_without_command=True)
def _options(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say what is being done.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    level = logging.INFO if verbose else logging.WARNING
    handler = RichHandler(console=Console(stderr=True), show_time=False, show_path=False)
    logging.basicConfig(level=level, format="%(message)s", handlers=[handler])
    if version:
        print(f"casfne {__version__}")
        raise typer.Exit


@app.command()
def stereo(
    capture: Annotated[
        Path, typer.Argument(help="A Photoface session, a Yale B person, or pictures with a lights.csv.")
    ],
    out: Out,
    solver: Annotated[str, typer.Option(help="How normals are found: one of `casfne.stereo.solvers`.")] = "selective",
    light_distance: Annotated[float | None, typer.Option(help="Metres from face to lamps; default: far.")] = None,
    strengths: Annotated[bool, typer.Option("--strengths", help="Estimate how bright each light is.")] = False,
    refine_lights: Annotated[
        bool, typer.Option("--refine-lights", help="Correct the directions too: six far lights, a frontal face.")
    ] = False,
    held_out: Annotated[int, typer.Option(help="Predict this many images from the others, and report.")] = 0,
    shadow: Annotated[float, typer.Option(help="Darker pixels, of full scale, are shadows.")] = 0.03,
    saturation: Annotated[float, typer.Option(help="Pixels this bright are saturated.")] = 0.98,
) -> None:
    """Normals and albedo of one face captured under several known lights.

    Writes normals, albedo, trust (.npy and .png), mask.png, depth.npy, figure.png and, last, summary.json.

    Example: casfne stereo ../shared/data/yale_b/yaleB01 --out out/yaleB01 --held-out 16
    """
    from casfne.stereo.captures import open_capture
    from casfne.stereo.held_out import held_out_error
    from casfne.stereo.output import describe, write_solution
    from casfne.stereo.solution import solve_capture
    from casfne.stereo.surface import Settings

    taken = open_capture(capture, light_distance)
    log.info("%s: %d lights", taken.name, len(taken.lights))
    settings = Settings(
        solver=solver, shadow=shadow, saturation=saturation, strengths=strengths, refine_lights=refine_lights
    )
    solution = solve_capture(taken, settings)
    if not solution.surface.mask.any():
        raise InputError(f"{capture}: {solution.surface.reason['mask']}")
    summary = describe(solution)
    if held_out:
        summary["held_out"] = held_out_error(taken, held_out, settings)
    write_solution(out, solution, summary)
    print(json.dumps(summary, indent=2))


@app.command()
def label(
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Images, folders, patterns, lists (.txt), archives (.zip, .tar, .parquet), or the root of a corpus; "
            "local, s3:// or gs://."
        ),
    ],
    out: Annotated[str, typer.Option("--out", help="Folder to write into, local or of a store (s3://, gs://).")],
    weights: Weights = RELEASE,
    corpus: Annotated[
        str,
        typer.Option(
            help="Layout of the input: folder, celeba, celeba_wild, celebamask, ffhq, ffhq_thumbnails, 300w, tar or "
            "parquet."
        ),
    ] = "folder",
    detector: Annotated[Path | None, typer.Option(help="YuNet's ONNX file, in place of dlib's detector.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda: all GPUs that CUDA_VISIBLE_DEVICES leaves.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")] = "auto",
    encoding: Annotated[str, typer.Option(help="Of the normals: png8, or octahedral, which is precise.")] = "png8",
    stages: Annotated[bool, typer.Option("--stages", help="Keep the normals of every stage t too.")] = False,
    relit: Annotated[bool, typer.Option("--relit", help="Keep a thumbnail of each face under a light.")] = False,
    timings: Annotated[bool, typer.Option("--timings", help="Fill the column seconds; files then differ.")] = False,
    shard_rows: Annotated[int, typer.Option(min=1, help="Images of a Parquet shard.")] = 256,
    batch: Annotated[int, typer.Option(min=0, help="Faces at once in the network; 0: found by itself.")] = 0,
    actors: Annotated[int, typer.Option(min=0, help="Copies of the network; 0: one a GPU, or else one a CPU.")] = 0,
    address: Annotated[str | None, typer.Option(help="Ray cluster to run on; default: this machine.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace labels of another run.")] = False,
    retry_errors: Annotated[
        bool, typer.Option("--retry-errors", help="Make those again that failed for a reason that can pass.")
    ] = False,
    max_failed_share: Annotated[float, typer.Option(help="Exit with 1 above this share of the images given.")] = 0.0,
    paste: Annotated[
        Path | None, typer.Option(help="Then put normals back into the photographs' pixels: PNGs below this folder.")
    ] = None,
) -> None:
    """Normals of every face in images, folders or a corpus, as Parquet: a row a face, and one an image without.

    A run that was interrupted goes on where it stopped when the same command is given again.

    Example: casfne label ../shared/data/portraits --out out/portraits
    """
    from casfne.corpora.catalogue import open_inputs
    from casfne.labelling import fleet
    from casfne.labelling.label import Options
    from casfne.labelling.output import Output
    from casfne.labelling.progress import Progress
    from casfne.labelling.shards import refuse_inside

    if paste is not None:
        refuse_inside(Output(paste), inputs)
        Output(paste).require_folder()
    photos = open_inputs(inputs, corpus)
    log.info("%d images", len(photos))
    with progress("label") as bar:

        def tell(at: Progress) -> None:
            failed = sum(at.failures.values())
            task = bar.task_ids[0] if bar.task_ids else bar.add_task("label", total=at.total)
            bar.update(task, completed=at.done, description=f"{at.images_per_s:.1f} images/s, {failed} failed")

        summary = fleet.run(
            photos,
            out,
            weights,
            detector=detector,
            device=device,
            precision=precision,
            options=Options(encoding, stages, relit),
            inputs=inputs,
            shard_rows=shard_rows,
            batch=batch,
            actors=actors,
            address=address,
            overwrite=overwrite,
            retry_errors=retry_errors,
            timings=timings,
            progress=tell,
        )
    if paste is not None and summary.faces:
        paste_labels(out, paste)
    counts = ", ".join(f"{count} {status}" for status, count in summary.statuses.items() if count)
    print(f"{out}: {summary.images} images, {summary.faces} faces ({counts})")
    for reason in summary.failures + summary.reasons:
        print(reason, file=sys.stderr)
    if summary.missing or summary.failures or summary.failed_share > max_failed_share:
        raise InputError(f"{summary.failed_share:.1%} of the images failed, {summary.missing} have no row")


@app.command()
def model_info(
    weights: Annotated[Path | None, typer.Argument(help="A weights file; default: the network of the options.")] = None,
    width: Annotated[int, typer.Option(min=1, help="F, channels of the decoders.")] = 32,
    fusion: Annotated[str, typer.Option(help="cat, adain or fmm.")] = "cat",
) -> None:
    """What the cascade costs by number of refinements T, exactly, at 256x256; of weights also where they come from.

    "counted twice" is how the paper's Table IV counts parameters (its t is the number of predictions, T + 1).

    Example: casfne model-info
    """
    from casfne.model.cascade import CascadeConfig
    from casfne.model.checkpoints import load_weights, read_metadata
    from casfne.model.size import describe

    config = CascadeConfig(width=width, fusion=fusion)
    if weights is not None:
        config = load_weights(weights)[0].config
        print(json.dumps(read_metadata(weights), indent=2))
    print(f"F = {config.width}, fusion {config.fusion}, one 256x256 image")
    print(" T  predictions  parameters  multiply-adds  parameters counted twice")
    for row in describe(config):
        giga, twice = f"{row.multiply_adds / 1e9:.2f} G", f"{row.parameters_counted_twice / 1e6:.2f} M"
        print(f"{row.refinements:2d}  {row.predictions:11d}  {row.parameters:10,d}  {giga:>13s}  {twice:>24s}")


@app.command()
def import_checkpoint(
    checkpoint: Annotated[Path, typer.Argument(help="The authors' file, as in epoch_500.pth.")],
    out: Annotated[Path, typer.Option("--out", help="The weights to write, .safetensors.")],
    frame: Annotated[str, typer.Option(help="Frame of that network's normals: opengl, directx, opencv or sfs.")],
    half: Annotated[bool, typer.Option("--half", help="Store in fp16.")] = False,
) -> None:
    """The authors' released checkpoint as weights of ours. Nothing in the file is run.

    The file does not name its frame; label a face with each candidate, or see casfne.normals.recognise_frame.

    Example: casfne import-checkpoint epoch_500.pth --out weights.safetensors --frame opengl
    """
    from casfne.model.authors import import_authors
    from casfne.model.checkpoints import save_weights

    network, about = import_authors(checkpoint, frame)
    save_weights(out, network, about, half)
    print(f"{out}: F = {network.config.width}, T = {network.config.refinements}")


@app.command()
def export(
    out: Annotated[Path, typer.Option("--out", help="File to write: .onnx, .pt2 (torch.export), or .safetensors.")],
    weights: Weights = RELEASE,
) -> None:
    """The network as ONNX or a torch.export program, both in fp32 with batches of any size, or as our weights in fp16.

    Input: float32 [B, 3, 256, 256], sRGB in 0..1. Output: float32 [B, T + 1, 3, 256, 256], t = 0 first.

    Example: casfne export --out out/model.onnx
    """
    from casfne.model.checkpoints import load_weights, save_weights
    from casfne.model.export import export as export_program

    network, about = load_weights(weights)
    if out.suffix == ".safetensors":
        save_weights(out, network, about, half=True)
    else:
        export_program(network, out, about)
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
