"""The weights that come with the project, by name; weights/README.md says what each is worth."""

from pathlib import Path

from casfne.errors import InputError
from casfne.provenance import file_sha256

FOLDER = Path(__file__).resolve().parents[2] / "weights"  # of the checkout
# SHA-256 of the folder's <name>.safetensors
RELEASES = {"release": "058728e07819363126a852571a52ef72f893c1497f3b9ad75f5cc563aa4d8402"}


def weights_file(name_or_path: str | Path) -> Path:
    """The file of a release, or the path as it came. A release's name goes before a file of that name: ./release.

    InputError: no such file, or a release's is not the one that was published.
    """
    name = str(name_or_path)
    file = FOLDER / f"{name}.safetensors" if name in RELEASES else Path(name_or_path)
    if not file.is_file():
        raise InputError(f"no weights at {file}: expected a file, or the name of a release: {', '.join(RELEASES)}")
    if name in RELEASES and file_sha256(file) != RELEASES[name]:
        raise InputError(f"{file}: not the weights that were published as {name}; `git checkout` brings them back")
    return file
