"""Normals put back into the photograph, from rows alone."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from casfne import files, images, octahedral, schema
from casfne.errors import InputError
from casfne.images import Crop
from casfne.labelling import paste
from casfne.normals import angle_deg, decode, encode, normalise

HEIGHT, WIDTH = 700, 900


def field() -> np.ndarray:
    """Smooth normals [H, W, 3] that differ everywhere."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] / 100.0
    return normalise(np.stack([0.6 * np.sin(x), 0.6 * np.cos(y), np.ones_like(x)], -1))


FIELD = field()


def oval(crop: Crop) -> np.ndarray:
    """An oval inside the crop and inside the photograph, bool [256, 256]."""
    centre = (np.arange(256) + 0.5) / 128 - 1
    return (np.hypot(centre[None] / 0.7, centre[:, None] / 0.9) < 1) & crop.inside(HEIGHT, WIDTH)


def row(crop: Crop, *, precise: bool = False, image_id: str = "a", face: int = 0, sign: float = 1) -> dict:
    """What labelling would write of a face in that window, if the model gave FIELD (its x turned by sign)."""
    mask = oval(crop)
    normals = normalise(crop.apply(FIELD * np.array([sign, 1, 1], np.float32)))
    png = {"bytes": images.encode_image(encode(normals, mask)), "path": None}
    return {
        "corpus": "f",
        "image_id": image_id,
        "path": f"{image_id}.jpg",
        "face_index": face,
        "status": "ok",
        "reason": "",
        "crop_to_image": crop.transform().ravel().tolist(),
        "source_height": HEIGHT,
        "source_width": WIDTH,
        "normal": None if precise else png,
        "normal_octahedral": octahedral.encode(normals, mask) if precise else None,
        "mask": {"bytes": images.encode_image(mask.astype(np.uint8) * 255), "path": None},
    }


def expected_inside(crop: Crop) -> np.ndarray:
    """Pixels of the photograph inside the oval, by the crop's transform alone; bool [H, W]."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    u, v = ((x - crop.left) / crop.side) * 2 - 1, ((y - crop.top) / crop.side) * 2 - 1
    return np.hypot(u / 0.7, v / 0.9) < 1


@pytest.mark.parametrize("precise", [False, True], ids=["png8", "octahedral"])
@pytest.mark.parametrize(
    "crop",
    [Crop(100, 120, 256), Crop(300, 50, 97), Crop(150, 90, 601), Crop(-80, -60, 400), Crop(700, 500, 333)],
    ids=["same", "smaller", "larger", "over the corner", "over the other"],
)
def test_a_known_field_comes_back(crop: Crop, precise: bool) -> None:
    photo = paste.paste(pd.DataFrame([row(crop, precise=precise)]))
    assert photo.shape == (HEIGHT, WIDTH, 3) and photo.dtype == np.float32
    there = photo.any(-1)
    error = angle_deg(photo, FIELD)[there]
    assert error.mean() < (0.1 if precise else 0.25)
    assert error.max() < 1.5  # at the rim of the mask, where half of what is resampled is missing
    assert np.linalg.norm(photo[there], axis=-1) == pytest.approx(1, abs=1e-5)
    wrong = there != expected_inside(crop)
    assert wrong.sum() < 0.02 * there.sum()  # the rim again
    assert not photo[~there].any()


def test_of_two_faces_the_larger_wins_where_they_meet() -> None:
    large, small = Crop(100, 100, 400), Crop(350, 200, 200)
    both = [row(small, face=1), row(large, sign=-1)]
    photo = paste.paste(pd.DataFrame(both))
    assert np.array_equal(photo, paste.paste(pd.DataFrame(both[::-1])))
    at_large, alone = expected_inside(large), expected_inside(small) & ~expected_inside(large)
    turned = FIELD * np.array([-1, 1, 1], np.float32)
    assert np.median(angle_deg(photo, turned)[at_large]) < 0.3
    assert np.median(angle_deg(photo, FIELD)[alone]) < 0.3


@pytest.mark.parametrize("crop", [Crop(0, 0, 2), Crop(-3, 17, 255), Crop(12, -40, 257), Crop(99_999, 5, 20_011)])
def test_the_window_is_read_from_its_transform(crop: Crop) -> None:
    assert paste.crop_of(crop.transform().ravel().tolist()) == crop


def test_what_cannot_be_pasted_is_said() -> None:
    one = row(Crop(10, 10, 100))
    cases: list[tuple[pd.DataFrame, str]] = [
        (pd.DataFrame([one]).drop(columns="mask"), "'mask'"),
        (pd.DataFrame([one, row(Crop(10, 10, 100), image_id="b")]), "2 images"),
        (pd.DataFrame([one]).iloc[:0], "0 images"),
        (pd.DataFrame([one | {"source_height": None, "source_width": None}]), "no face"),
        (pd.DataFrame([one | {"source_height": 10**6, "source_width": 10**6}]), "at most"),
        (pd.DataFrame([one | {"crop_to_image": [1.0, 0.2, 0, -0.2, 1.0, 0]}]), "upright square"),
        (pd.DataFrame([one | {"crop_to_image": None}]), "upright square"),
        (pd.DataFrame([one | {"crop_to_image": [float("nan")] * 6}]), "upright square"),
        (pd.DataFrame([one | {"normal": None}]), "no picture of 'normal'"),
    ]
    for rows, message in cases:
        with pytest.raises(InputError, match=message):
            paste.paste(rows)


def test_a_folder_of_labels_is_pasted_image_by_image(tmp_path: Path) -> None:
    first, second = Crop(20, 30, 200), Crop(500, 300, 300)
    none = {"corpus": "f", "image_id": "none", "path": "n", "face_index": -1, "status": "no_face", "reason": "none"}
    rows = [row(first, image_id="a/1"), row(second, image_id="a/1", face=1), row(second, image_id="b"), none]
    with files.atomic_open(tmp_path / "labels" / "corpus=f" / "part-00000.parquet") as file:
        schema.write(file, rows, {})
    written = list(paste.paste_all(tmp_path / "labels", tmp_path / "out"))
    assert [path.relative_to(tmp_path / "out").as_posix() for path in written] == ["f/a%2F1.png", "f/b.png"]
    picture = images.read_image(written[0])
    on = expected_inside(first) | expected_inside(second)
    assert ((picture == 128).all(-1) == on).mean() < 0.01
    assert np.median(angle_deg(decode(picture), FIELD)[on]) < 0.5
    only = list(paste.paste_all(tmp_path / "labels", tmp_path / "one", [("image_id", "==", "b")]))
    assert [path.name for path in only] == ["b.png"]
    with pytest.raises(InputError, match="no labelled face"):
        list(paste.paste_all(tmp_path / "labels", tmp_path / "nothing", [("image_id", "==", "none")]))
    assert not (tmp_path / "nothing").exists()
