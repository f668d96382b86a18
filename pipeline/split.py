"""Stage split: the people of the samples -> train and test, nobody in both."""

import json
from pathlib import Path

from casfne import config
from casfne.corpora.samples import read_index
from casfne.corpora.split import rows_of, split_subjects
from casfne.errors import guard
from casfne.files import write_text

OUT = Path("data/split.json")


@guard
def main() -> None:
    """Split by subject and say what came of it."""
    settings = config.load("params.yaml", "split")
    index = read_index("data/samples")
    split = split_subjects(list(index["subject"]), settings.test_share, settings.seed)
    counts = {part: len(rows_of(index, split, part)) for part in ("train", "test")}
    write_text(OUT, json.dumps(split | {"images": counts}, indent=2) + "\n")
    for part in ("train", "test"):
        print(f"{part}: {len(split[part])} people, {counts[part]} images")


if __name__ == "__main__":
    main()
