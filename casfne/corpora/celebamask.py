"""CelebAMask-HQ: 30,000 pictures of CelebA at 1024x1024, aligned anew; without points, so a detector finds the faces.

CelebA-HQ-img/0.jpg                       or CelebA-HQ-img.zip
CelebA-HQ-to-CelebA-mapping.txt           `idx orig_idx orig_file`, then `0  119613  119614.jpg`
CelebAMask-HQ-attribute-anno.txt          count; 40 names; `0.jpg  -1 1 ...`
list_eval_partition.txt                   CelebA's, where it was put here
"""

from casfne import sources
from casfne.corpora.celeba import attributes, find
from casfne.corpora.record import Photo, checked, pictures_of, read_text, rows
from casfne.errors import InputError


def read(root: str) -> list[Photo]:
    """Every picture, sorted by name. Attributes: `celeba_image_id`, the picture's id in CelebA, where the mapping is
    there; the 40 of CelebA; `partition`, by way of the mapping. InputError names a file that makes no sense."""
    _, pictures = pictures_of(root, "CelebA-HQ-img")
    names = sorted(pictures)
    origin = _mapping(path) if (path := find(root, "CelebA-HQ-to-CelebA-mapping.txt")) else {}
    files = [origin.get(name.rpartition(".")[0], "") for name in names]
    columns = dict(attributes(root, names, "CelebAMask-HQ-attribute-anno.txt", files))
    if origin:
        columns["celeba_image_id"] = [file.rpartition(".")[0] or None for file in files]
    said = rows(columns, len(names))
    photos = [
        Photo("celebamask", sources.escape(name.rpartition(".")[0]), pictures[name], attributes=said[i])
        for i, name in enumerate(names)
    ]
    return checked(photos, root)


def _mapping(path: str) -> dict[str, str]:
    """File name in CelebA by number."""
    found = {}
    for number, line in enumerate(read_text(path).splitlines()[1:], start=2):
        if not line.strip():
            continue
        try:
            index, _, file = line.split()
            found[str(int(index))] = file
        except ValueError:
            raise InputError(f"{path}:{number}: expected two numbers and a file name, got {line!r}") from None
    return found
