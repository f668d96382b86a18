"""Training and test people. A person is in one of the two, with every session."""

import numpy as np
import pandas as pd

from casfne.errors import InputError


def split_subjects(subjects: list[str], test_share: float, seed: int) -> dict[str, list[str]]:
    """{"train": [...], "test": [...]}, sorted, the same for the same people and seed whatever their order.

    At least one person is on each side. InputError for a share outside 0..1 or fewer than two people.
    """
    people = sorted(set(subjects))
    if not 0 < test_share < 1:
        raise InputError(f"split.test_share: {test_share}, expected between 0 and 1")
    if len(people) < 2:
        raise InputError(f"split: {len(people)} people, at least 2 are needed")
    count = min(max(round(test_share * len(people)), 1), len(people) - 1)
    test = np.random.default_rng(seed).permutation(people)[:count].tolist()
    return {"train": sorted(set(people) - set(test)), "test": sorted(test)}


def rows_of(index: pd.DataFrame, split: dict[str, list[str]], part: str) -> pd.DataFrame:
    """The index's rows of one part. InputError for a leak, or people that the split does not know."""
    train, test = set(split["train"]), set(split["test"])
    if leaked := sorted(train & test):
        raise InputError(f"split: {leaked[0]} is in both train and test ({len(leaked)} people are)")
    if unknown := sorted(set(index["subject"]) ^ (train | test)):
        raise InputError(f"split: {unknown[0]} is in only one of index and split; run `dvc repro split`")
    return index[index["subject"].isin(split[part])].reset_index(drop=True)
