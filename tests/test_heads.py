"""Head models: files, people, expressions, and how the two providers are made."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from casfne.capture.draws import Draws
from casfne.capture.people import anny, facekit
from casfne.capture.people.appearance import sample_looks
from casfne.capture.people.expressions import ACTIONS
from casfne.capture.people.heads import (
    FACE,
    SCLERA,
    HeadModel,
    read_head_model,
    sample_expression,
    sample_identity,
)
from casfne.capture.people.sexes import sample_sex
from casfne.errors import InputError


@pytest.fixture(scope="module", params=["facekit", "anny"])
def model(request: pytest.FixtureRequest) -> HeadModel:
    """Each provider's head."""
    if request.param == "anny":
        return anny.anny_model()
    return read_head_model(request.getfixturevalue("shared_data") / "facekit" / "facekit.npz")


def posed(model: HeadModel, **actions: float) -> Tensor:
    """The mean person's vertices with actions, named with or without a side."""
    expression = torch.zeros(1, len(model.expression_names))
    for name, strength in actions.items():
        for i, known in enumerate(model.expression_names):
            if known == name or known[:-2] == name:
                expression[0, i] = strength
    return model.vertices(torch.zeros(1, len(model.identity)), expression)[0]


def landmarks(model: HeadModel, **actions: float) -> Tensor:
    return posed(model, **actions)[model.landmarks]


def test_the_mean_head_lies_in_head_space(model):
    points = model.template[model.landmarks]
    assert points[27, 2] == pytest.approx(0.097, abs=1e-5)
    assert points[8, 1] == pytest.approx(-float(model.template[:, 1].max()), abs=1e-4)
    assert 0.2 < model.template[:, 1].max() - points[8, 1] < 0.26
    assert 0.08 < (points[45] - points[36]).norm() < 0.11
    assert points[36, 0] < 0 < points[45, 0] and points[0, 0] < 0 < points[16, 0]
    mirrored = points.flip(0)[51:68] * torch.tensor([-1.0, 1, 1])  # the jaw's 17 points, from the other end
    assert (points[:17] - mirrored).norm(dim=-1).max() < 0.003
    assert (points[:, 2] > -0.03).all() and (points[19, 1] > points[37, 1] > points[33, 1] > points[57, 1])


def test_triangles_face_outwards(model):
    for region in (FACE, SCLERA):
        corners = model.template[model.triangles[model.region == region]]
        for side in (1, -1):  # each eyeball has its own inside
            a, b, c = corners[corners[:, 0, 0] * side > 0].unbind(1)
            centre = (a.amin(0) + a.amax(0)) / 2 * torch.tensor([float(region == SCLERA), 1, 1])
            assert (torch.linalg.cross(b - a, c - a) * (a - centre)).sum() > 0


def test_no_coefficients_give_the_mean_person(model):
    assert torch.equal(posed(model), model.template)


def test_the_model_is_linear(model):
    draws = Draws(torch.arange(2))
    people, faces = sample_identity(model, draws), sample_expression(model, draws)
    sums = model.vertices(people, faces) - model.template
    parts = model.vertices(people, faces * 0) + model.vertices(people * 0, faces) - 2 * model.template
    assert (sums - parts).abs().max() < 1e-6


def test_a_sample_is_the_same_in_any_batch(model):
    draws = Draws(torch.tensor([5, 9, 5, 2]))
    people, faces = sample_identity(model, draws), sample_expression(model, draws)
    alone = draws.of(torch.tensor([1]))
    assert torch.equal(people[0], people[2]) and torch.equal(faces[0], faces[2])
    assert torch.equal(sample_identity(model, alone)[0], people[1])
    assert torch.equal(sample_expression(model, alone)[0], faces[1])
    together = model.vertices(people, faces)
    assert (model.vertices(people[1:2], faces[1:2])[0] - together[1]).abs().max() < 1e-6


def test_people_differ_and_stay_people(model):
    people = sample_identity(model, Draws(torch.arange(100)))
    points = model.vertices(people, torch.zeros(100, len(model.expression_names)))[:, model.landmarks]
    assert (points.std(0).norm(dim=-1) > 0.001).all()
    across = (points[:, 45] - points[:, 36]).norm(dim=-1)
    assert across.min() > 0.07 and across.max() < 0.12
    assert (points[:, 30, 2] > points[:, 27, 2]).all()  # noses stand out


def test_women_have_narrower_jaws_and_noses(model):
    draws = Draws(torch.arange(300))
    people = sample_identity(model, draws)
    points = model.vertices(people, torch.zeros(300, len(model.expression_names)))[:, model.landmarks]
    woman = sample_sex(draws) > 0.5
    assert torch.equal(sample_looks(model, torch.zeros(300, len(model.expression_names)), draws).sex > 0.5, woman)
    for left, right in ((4, 12), (31, 35)):
        wide = points[:, right, 0] - points[:, left, 0]
        assert wide[woman].mean() < 0.98 * wide[~woman].mean()


def test_people_at_rest_have_closed_lips(model):
    people = sample_identity(model, Draws(torch.arange(100)))
    points = model.vertices(people, torch.zeros(100, len(model.expression_names)))[:, model.landmarks]
    gap = points[:, [61, 62, 63], 1] - points[:, [67, 66, 65], 1]
    assert gap.abs().max() < 0.0015
    assert gap.mean(1).sub(0.0001).abs().max() < 1e-5


def test_actions_do_what_their_names_say(model):
    rest = landmarks(model)
    smile = landmarks(model, mouthSmile=1) - rest
    assert (smile[[48, 54], 1] > 0.004).all() and smile[48, 0] < -0.002 and smile[54, 0] > 0.002
    assert (landmarks(model, jawOpen=1) - rest)[8, 1] < -0.01
    closed = landmarks(model, eyeBlink=1)
    assert (closed[[37, 38, 43, 44], 1] - closed[[41, 40, 47, 46], 1]).abs().max() < 0.0015
    assert (landmarks(model, browInnerUp=1) - rest)[[21, 22], 1].min() > 0.003


def test_sides_are_those_of_the_person(model):
    rest = landmarks(model)
    moved = (landmarks(model, eyeBlink_L=1) - rest).norm(dim=-1)
    assert moved[43] > 0.005 and moved[38] < 1e-4  # 42..47 lie at x > 0: the person's left
    moved = (landmarks(model, mouthSmile_R=1) - rest).norm(dim=-1)
    assert moved[48] > 0.005 > moved[54]


@pytest.mark.parametrize("side", [1, -1])
def test_gaze_turns_the_eyeballs(model, side):
    balls = model.triangles[model.region == SCLERA].unique()
    own = balls[model.template[balls, 0] * side > 0]
    pupil = own[model.template[own, 2].argmax()]
    letter = "L" if side > 0 else "R"
    of = {d: (posed(model, **{f"eyeLook{d}_{letter}": 1.0}) - model.template) for d in ("In", "Out", "Up", "Down")}
    assert of["In"][pupil, 0] * side < -0.003 and of["Out"][pupil, 0] * side > 0.003
    assert of["Up"][pupil, 1] > 0.002 and of["Down"][pupil, 1] < -0.003
    other = balls[model.template[balls, 0] * side < 0]
    assert of["In"][other].abs().max() < 1e-4


def strength(model: HeadModel, count: int = 400) -> dict[str, Tensor]:
    faces = sample_expression(model, Draws(torch.arange(count)))
    assert faces.shape == (count, len(model.expression_names)) and faces.min() >= 0 and faces.max() <= 1
    return {name: faces[:, i] for i, name in enumerate(model.expression_names)}


def test_expressions_are_possible(model):
    of = strength(model)
    assert (of["mouthClose"] <= of["jawOpen"]).all()
    for side in "LR":
        assert (of[f"eyeBlink_{side}"] * of[f"eyeWide_{side}"] < 0.1).all()
        assert (of[f"eyeLookIn_{side}"] * of[f"eyeLookOut_{side}"] == 0).all()
        assert (of[f"eyeLookUp_{side}"] * of[f"eyeLookDown_{side}"] == 0).all()
    assert torch.equal(of["eyeLookIn_L"], of["eyeLookOut_R"]) and torch.equal(of["eyeLookIn_R"], of["eyeLookOut_L"])
    assert of["eyeLookIn_L"].max() > 0.3 and of["eyeLookIn_R"].max() > 0.3


def test_expressions_are_many_and_a_third_is_near_rest(model):
    of = strength(model)
    moves = torch.stack([value for name, value in of.items() if not name.startswith(("eyeLook", "Pupil"))])
    assert 0.2 < (moves.amax(0) < 0.32).float().mean() < 0.6
    for name in ("mouthSmile_L", "jawOpen", "browDown_R", "mouthPucker", "eyeBlink_R", "mouthFrown_L"):
        assert of[name].max() > 0.3, name
    uneven = (of["mouthSmile_L"] - of["mouthSmile_R"]).abs()
    assert uneven.median() < 0.05 and uneven.max() > 0.2


def test_weight_is_the_mean_of_the_sides(model):
    expression = torch.zeros(2, len(model.expression_names))
    expression[1, model.expression_names.index("mouthSmile_L")] = 0.6
    expression[1, model.expression_names.index("jawOpen")] = 0.3
    assert model.weight(expression, "mouthSmile").tolist() == pytest.approx([0, 0.3])
    assert model.weight(expression, "mouthSmile_L").tolist() == pytest.approx([0, 0.6])
    assert model.weight(expression, "jawOpen").tolist() == pytest.approx([0, 0.3])
    assert model.weight(expression, "earWiggle").tolist() == [0, 0]


def test_every_sampled_action_is_one_of_facekits(shared_data):
    names = read_head_model(shared_data / "facekit" / "facekit.npz").expression_names
    assert {name.removesuffix("_L").removesuffix("_R") for name in names} >= set(ACTIONS)


def test_vertices_of_other_shapes_are_refused(model):
    with pytest.raises(ValueError, match=r"expected \[B, \d+\] and \[B, \d+\], got"):
        model.vertices(torch.zeros(1, 3), torch.zeros(1, len(model.expression_names)))


def small_arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "vertices": rng.normal(0, 5, (70, 3)).astype(np.float32),
        "triangles": np.array([[0, 1, 2], [2, 1, 69]], np.int32),
        "triangle_region": np.array([0, 1], np.uint8),
        "region_names": np.array(["iris", "face"]),
        "uv": rng.uniform(size=(4, 2)).astype(np.float32),
        "triangle_uv": np.array([[0, 1, 2], [2, 1, 3]], np.int32),
        "identity": rng.normal(size=(5, 70, 3)).astype(np.float16),
        "expression": rng.normal(size=(2, 70, 3)).astype(np.float16),
        "expression_names": np.array(["jawOpen", "eyeBlink_L"]),
        "landmarks_68": np.arange(68, dtype=np.int32),
    }


def test_a_small_file_is_read(tmp_path):
    arrays = small_arrays()
    np.savez(tmp_path / "small.npz", **arrays)
    model = read_head_model(tmp_path / "small.npz")
    assert model.name == "small" and model.expression_names == ("jawOpen", "eyeBlink_L")
    assert model.region.tolist() == [5, 0] and model.region.dtype == model.triangles.dtype == torch.int64
    assert torch.allclose(model.identity, torch.from_numpy(arrays["identity"]).float() / 100)
    moved = model.to("cpu").template - torch.from_numpy(arrays["vertices"]) / 100
    assert (moved - moved[0]).abs().max() < 1e-6


def changed(key: str, value: object) -> dict[str, np.ndarray]:
    return small_arrays() | {key: np.asarray(value)}


def with_one(key: str, where: tuple[int, ...], value: float) -> dict[str, np.ndarray]:
    arrays = small_arrays()
    arrays[key][where] = value
    return arrays


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"picture": np.zeros(3)}, "no key 'vertices'"),
        ({k: v for k, v in small_arrays().items() if k != "uv"}, "no key 'uv'"),
        (changed("vertices", np.zeros((70, 2))), r"vertices: expected \[V, 3\], got \[70, 2\]"),
        (changed("vertices", np.zeros((70, 3), int)), "vertices: expected floats, got int64"),
        (changed("triangles", np.zeros((2, 3))), "triangles: expected integers, got float64"),
        (changed("triangles", np.zeros((0, 3), int)), r"triangles: expected \[T, 3\], got \[0, 3\]"),
        (changed("triangle_region", np.zeros(3, int)), r"triangle_region: expected \[2\], got \[3\]"),
        (changed("identity", np.zeros((5, 69, 3))), r"identity: expected \[K, 70, 3\], got \[5, 69, 3\]"),
        (changed("expression", np.zeros((2, 70))), r"expression: expected \[E, 70, 3\], got \[2, 70\]"),
        (changed("expression_names", ["jawOpen"]), r"expression_names: expected \[2\], got \[1\]"),
        (changed("expression_names", ["jawOpen", "jawOpen"]), "expression_names: some names occur twice"),
        (changed("expression_names", [1, 2]), "expression_names: expected text, got int64"),
        (
            changed("region_names", ["iris", "tail"]),
            "region_names: unknown region in iris, tail: expected some of face, ",
        ),
        (changed("landmarks_68", np.zeros(67, int)), r"landmarks_68: expected \[68\], got \[67\]"),
        (with_one("vertices", (3, 1), np.nan), "vertices: some values are not finite"),
        (with_one("identity", (4, 3, 1), np.inf), "identity: some values are not finite"),
        (with_one("triangles", (1, 1), 70), r"triangles: indices 0..70 do not fit 70 vertices"),
        (with_one("triangles", (1, 1), -1), r"triangles: indices -1..69 do not fit 70 vertices"),
        (with_one("triangle_uv", (0, 0), 4), r"triangle_uv: indices 1..4 do not fit 4 uv"),
        (with_one("triangle_region", (0,), 2), r"triangle_region: indices 1..2 do not fit 2 region_names"),
        (with_one("landmarks_68", (5,), 99), r"landmarks_68: indices 0..99 do not fit 70 vertices"),
    ],
)
def test_a_fault_in_a_file_is_named(tmp_path, arrays, message):
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(InputError, match=f"bad.npz: {message}"):
        read_head_model(tmp_path / "bad.npz")


def test_a_file_that_is_no_npz_is_named(tmp_path):
    np.savez(tmp_path / "whole.npz", **small_arrays())
    np.save(tmp_path / "single.npy", np.zeros(3))
    np.savez(tmp_path / "objects.npz", **small_arrays() | {"uv": np.array([{}, None], object)})
    whole = (tmp_path / "whole.npz").read_bytes()
    for name, content in {"cut.npz": whole[:999], "empty.npz": b"", "text.npz": b"hello"}.items():
        (tmp_path / name).write_bytes(content)
    for name in ("cut.npz", "empty.npz", "text.npz", "missing.npz", "single.npy", "objects.npz", "."):
        with pytest.raises(InputError, match="cannot be read" if name == "." else f"{name}: cannot be read"):
            read_head_model(tmp_path / name)


# --- a clone of ICT-FaceKit, in its own layout


def write_obj(path: Path, vertices: np.ndarray, rest: str = "") -> None:
    extra = np.zeros((3, 3))  # the transparent shells, which are left out
    rows = "\n".join(f"v {x!r} {y!r} {z!r}" for x, y, z in np.concatenate([vertices, extra]).tolist())
    path.write_text(f"# a comment\nmtllib ICTFaceModelMaterial.mtl\n{rows}\n{rest}")


def polygons(arrays: dict[str, np.ndarray]) -> list[str]:
    """The model's triangles as the repository's quads and triangles."""
    both = np.stack([arrays["triangles"], arrays["triangle_uv"]], -1) + 1
    region, names = arrays["triangle_region"], [str(name) for name in arrays["region_names"]]
    lines, start, first = [], 0, 0
    for end, name in facekit._PARTS:
        last = first + int(np.argmax(np.append(region[first:] != names.index(name), True)))
        lines += part(both[first:last].tolist(), end - start)
        start, first = end, last
    return lines


def part(triangles: list[list[list[int]]], count: int) -> list[str]:
    """As many polygons as asked for, whose fans are the triangles."""
    lines, i, quads = [], 0, len(triangles) - count
    while i < len(triangles):
        corners = triangles[i]
        following = triangles[i + 1] if i + 1 < len(triangles) else None
        if quads and following and following[:2] == [corners[0], corners[2]]:
            corners, quads, i = [*corners, following[2]], quads - 1, i + 1
        lines.append("f " + " ".join(f"{v}/{t}" for v, t in corners))
        i += 1
    assert len(lines) == count
    return lines


PEOPLE, FACES = 2, ("PupilDilate_L", "browDown_L", "jawOpen")


@pytest.fixture(scope="module")
def clone(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, np.ndarray]]:
    """A clone with few people and expressions, and the head model's arrays that it stands for."""
    folder = tmp_path_factory.mktemp("clone")
    arrays = dict(np.load(shared_data / "facekit" / "facekit.npz"))
    rows = [list(arrays["expression_names"]).index(name) for name in FACES]
    arrays |= {"identity": arrays["identity"][:PEOPLE], "expression": arrays["expression"][rows]}
    arrays["expression_names"] = np.array(FACES)
    neutral = arrays["vertices"].astype(np.float64)
    (folder / "FaceXModel").mkdir()
    uv = "\n".join(f"vt {u!r} {v!r}" for u, v in [*arrays["uv"].astype(float).tolist(), (9.0, 9.0)])
    rest = "\n".join([uv, *polygons(arrays), f"f 24592/1 24593/{len(arrays['uv']) + 1} 24594/1", ""])
    write_obj(folder / "FaceXModel" / "generic_neutral_mesh.obj", neutral, rest)
    for i, moved in enumerate(arrays["identity"]):
        write_obj(folder / "FaceXModel" / f"identity{i:03d}.obj", neutral + moved)
    for name, moved in zip(FACES, arrays["expression"], strict=True):
        write_obj(folder / "FaceXModel" / f"{name}.obj", neutral + moved)
    (folder / "FaceXModel" / "vertex_indices.json").write_text(json.dumps({"expressions": FACES[1:]}))
    return folder, arrays


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facekit, "_IDENTITIES", PEOPLE)


@pytest.mark.parametrize("inner", ["", "FaceXModel"])
def test_a_clone_gives_the_head_model(clone, few, tmp_path, inner):
    folder, expected = clone
    facekit.import_facekit(folder / inner, tmp_path / "out.npz")
    made = dict(np.load(tmp_path / "out.npz"))
    assert made.keys() == expected.keys()
    for key, array in expected.items():
        assert made[key].dtype == array.dtype and np.array_equal(made[key], array), key
    assert read_head_model(tmp_path / "out.npz").expression_names == FACES


def linked(folder: Path, to: Path) -> Path:
    """A copy of the clone in which single files can be replaced."""
    for file in (folder / "FaceXModel").iterdir():
        (to / file.name).symlink_to(file)
    return to


def replaced(path: Path, text: str) -> None:
    path.unlink()
    path.write_text(text)


@pytest.mark.parametrize(
    ("name", "edit", "message"),
    [
        ("vertex_indices.json", None, "vertex_indices.json: cannot be read: .*expected a clone of ICT-FaceKit"),
        ("vertex_indices.json", lambda text: "[]", "vertex_indices.json: expected JSON with the key 'expressions'"),
        ("jawOpen.obj", None, "jawOpen.obj: no such file, but vertex_indices.json lists it"),
        ("identity001.obj", None, "identity001.obj: cannot be read"),
        ("generic_neutral_mesh.obj", None, "generic_neutral_mesh.obj: cannot be read"),
        ("identity001.obj", lambda text: text + "v 0 0 0\n", r"identity001.obj: 24595 vertices, but .* has 24594"),
        ("identity000.obj", lambda text: text[:9999], r"identity000.obj: (\d+ vertices, expected|a line 'v ..')"),
        ("jawOpen.obj", lambda text: text.replace("v ", "v x", 1), "jawOpen.obj: a line 'v ..' has not 3 numbers"),
        (
            "jawOpen.obj",
            lambda text: text.replace("v 0.0", "v inf", 1),
            "jawOpen.obj: .* has a number that is not finite",
        ),
        (
            "generic_neutral_mesh.obj",
            lambda text: "\n".join(reversed(text.splitlines())),
            "the vertices are in another order",
        ),
        (
            "generic_neutral_mesh.obj",
            lambda text: text[: text.index("\nf ") + 9999],
            "polygons, expected at least 24692",
        ),
        ("generic_neutral_mesh.obj", lambda text: text.replace("\nf 874", "\nf 99999", 1), "has vertex 99999"),
        ("generic_neutral_mesh.obj", lambda text: text.replace("\nf 874/1", "\nf 874", 1), "'f 874 .*vertex/texture"),
    ],
)
def test_a_fault_in_a_clone_is_named(clone, few, tmp_path, name, edit, message):
    folder = linked(clone[0], tmp_path)
    if edit:
        replaced(folder / name, edit((folder / name).read_text()))
    else:
        (folder / name).unlink()
    with pytest.raises(InputError, match=message):
        facekit.import_facekit(folder, tmp_path / "out.npz")
    assert not [path for path in tmp_path.iterdir() if "out" in path.name]


# --- anny's head and its cache


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ANNY_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(anny, "_version", lambda: "7")
    return tmp_path


def test_annys_head_appears_whole_or_not_at_all(empty_cache, monkeypatch):
    def killed(cache: Path) -> dict[str, np.ndarray]:
        cache.mkdir()
        (cache / "load_data_x").write_text("large")
        raise KeyboardInterrupt

    monkeypatch.setattr(anny, "_made", killed)
    with pytest.raises(KeyboardInterrupt):
        anny.anny_model()
    assert not list(empty_cache.iterdir())
    monkeypatch.setattr(anny, "_made", lambda cache: small_arrays())
    assert anny.anny_model().name == "anny"
    assert [str(path.relative_to(empty_cache)) for path in empty_cache.rglob("*.*")] == [
        f"casfne-heads-7-{anny._FORM}/anny.npz"
    ]
    monkeypatch.setattr(anny, "_made", killed)  # the file is there: nothing is made
    assert len(anny.anny_model().identity) == 5


def test_annys_head_of_a_quicker_process_is_taken(empty_cache, monkeypatch):
    folder = empty_cache / f"casfne-heads-7-{anny._FORM}"

    def slow(cache: Path) -> dict[str, np.ndarray]:
        folder.mkdir()
        np.savez(folder / "anny.npz", **small_arrays() | {"identity": np.zeros((9, 70, 3))})
        return small_arrays()

    monkeypatch.setattr(anny, "_made", slow)
    assert len(anny.anny_model().identity) == 9
    assert list(empty_cache.iterdir()) == [folder]


def test_annys_own_cache_stays_where_it_was(tmp_path, monkeypatch):
    import anny.paths as paths

    monkeypatch.setattr(paths, "_ANNY_CACHE_DIR", [tmp_path])
    monkeypatch.setattr(anny, "_source", paths.get_anny_cache_path)
    monkeypatch.setattr(anny, "_bake", lambda source: {"source": source})
    assert anny._made(tmp_path / "own") == {"source": tmp_path / "own"}
    assert paths.get_anny_cache_path() == tmp_path


def test_a_machine_without_anny_is_told_so(monkeypatch):
    def missing(_: str) -> str:
        raise anny.importlib.metadata.PackageNotFoundError("anny")

    monkeypatch.setattr(anny.importlib.metadata, "version", missing)
    with pytest.raises(InputError, match="anny is not installed"):
        anny.anny_model()


def test_the_population_is_of_adults_and_nearly_symmetric():
    drawn = anny._people(np.random.default_rng(3), 50)
    shares = sum(drawn["phenotype_kwargs"][name] for name in ("african", "asian", "caucasian"))
    assert torch.allclose(shares, torch.ones(50), atol=1e-5) and drawn["phenotype_kwargs"]["age"].min() > 0.5
    left, right = (drawn["local_changes_kwargs"][f"{side}-ear-scale-incr"] for side in "lr")
    assert (left - right).abs().max() < 0.3 and left.std() > 0.1


def test_principal_components_are_the_people(monkeypatch):
    monkeypatch.setattr(anny, "_COMPONENTS", 2)
    weights = torch.randn(300, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([3.0, 0.5])
    modes = torch.tensor([[[1.0, 0, 0], [0, 0, 0]], [[0, 0, 0], [0, 1.0, 0]]])
    mean, identity = anny._principal_components(torch.einsum("pk,kvc->pvc", weights, modes) + 7)
    assert identity.shape == (2, 2, 3) and (mean - 7).abs().max() < 0.5
    assert identity[0].norm() == pytest.approx(3, rel=0.1) and identity[1].norm() == pytest.approx(0.5, rel=0.1)
    assert anny._sided("mouthSmileLeft") == "mouthSmile_L" and anny._sided("eyeBlinkRight") == "eyeBlink_R"
    assert anny._sided("jawLeft") == "jawLeft" and anny._sided("mouthRight") == "mouthRight"
