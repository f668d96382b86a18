"""Rendered portraits as samples: the archives that training reads, with what else is known of each picture."""

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from casfne.corpora.samples import mask_columns, write_archive


def write_portrait(root: Path, seed: int, number: int, maps: dict[str, NDArray]) -> dict[str, Any]:
    """Write portrait ``number`` of the data set ``seed`` under ``root``; returns its row of the index.

    maps: image uint8 [S, S, 3] (sRGB), normal [S, S, 3], mask bool [S, S], trust [S, S] in 0..1, albedo [S, S, 3]
    (linear); and, kept as they are: classes uint8 [S, S], depth float32 [S, S], landmarks float32 [68, 2], angles_deg
    [3].
    """
    archive = f"{seed:04d}_{number:08d}.npz"
    kept = {name: maps[name] for name in ("classes", "depth", "landmarks", "angles_deg")}
    truth = {name: maps[name] for name in ("normal", "mask", "trust")} | {"albedo": maps["albedo"].mean(-1)}
    write_archive(root / archive, maps["image"][None], truth, kept)
    yaw, pitch, roll = (float(angle) for angle in maps["angles_deg"])
    return {
        "sample_id": archive.removesuffix(".npz"),
        "archive": archive,
        "light": 0,
        "subject": f"{seed:04d}_{number:08d}",
        "session": "0",
        "source": "studio",
        "yaw_deg": yaw,
        "pitch_deg": pitch,
        "roll_deg": roll,
        **mask_columns(maps["mask"], maps["trust"]),
    }
