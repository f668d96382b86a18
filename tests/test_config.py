"""Parameters: every key known, typed and explained."""

import re

import pytest
import yaml
from conftest import ROOT

from casfne import config
from casfne.errors import InputError

PARAMS = ROOT / "params.yaml"
PORTRAITS = {"heads": ["a.npz", "b.npz"], "seed": 1, "count": 100, "held": 0, "supersample": 2, "keep": None}
STAGES = ("simulate", "prepare", "split", "train", "evaluate", "label", "report")


@pytest.mark.parametrize("stage", STAGES)
def test_the_projects_own_parameters_load(stage):
    assert type(config.load(PARAMS, stage)).__name__.lower() == stage


def test_both_profiles_are_a_switch_away():
    train = config.load(PARAMS, "train")
    paper = train.profiles["paper"]
    assert train.chosen is train.profiles["demo"]
    assert paper.width == 32 and paper.schedule == (config.Step(256, 8, 500000, 1e-4, 1e-4, ()),)
    assert (paper.start, paper.normalisation) == ("imagenet", "none")  # as the authors' release feeds its network
    assert (train.refinements, train.weight_rec, train.weight_tv, train.weight_adv) == (2, 1.0, 0.002, 0.0001)


def test_portraits_are_read(tmp_path):
    content = yaml.safe_load(PARAMS.read_text())
    content["train"]["profiles"]["demo"]["portraits"] = PORTRAITS
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
    train = config.load(tmp_path / "params.yaml", "train")
    assert train.chosen.portraits == config.Portraits(("a.npz", "b.npz"), 1, 100, 0, 2, None)
    assert train.profiles["paper"].portraits is None


def test_every_key_is_explained():
    bare = [
        line
        for line in PARAMS.read_text().splitlines()
        if re.match(r"\s+\w+:", line) and "#" not in line and not re.match(r"\s{6,}\w+:|.*(height|width):", line)
    ]
    explained_together = {"precision", "device", "celeba", "ffhq", "300w", "seed", "weight_tv"}
    assert {line.split(":")[0].strip() for line in bare} <= {"profiles", "demo", "paper"} | explained_together


@pytest.mark.parametrize(
    "change, message",
    [
        ({"test_shore": 0.2}, r"split\.test_shore: unknown key"),
        ({"test_share": "many"}, r"split\.test_share: expected float, got 'many'"),
        ({"seed": True}, r"split\.seed: expected int, got True"),
        ({"seed": 1.5}, r"split\.seed: expected int"),
    ],
)
def test_mistakes_are_named(tmp_path, change, message):
    content = yaml.safe_load(PARAMS.read_text())
    content["split"] |= change
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match=message):
        config.load(path, "split")


def test_missing_keys_sections_and_files_are_named(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("split: {seed: 1}")
    with pytest.raises(InputError, match=r"split\.test_share: missing"):
        config.load(path, "split")
    with pytest.raises(InputError, match="no section 'train'"):
        config.load(path, "train")
    path.write_text("split: {seed: 1\n  x")
    with pytest.raises(InputError, match="not YAML"):
        config.load(path, "split")
    with pytest.raises(InputError, match="cannot be read"):
        config.load(tmp_path / "none.yaml", "split")


def test_impossible_values_are_named(tmp_path):
    content = yaml.safe_load(PARAMS.read_text())
    content["train"]["profile"] = "papre"
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match=r"train\.profile: 'papre' is none of ablation, demo, paper"):
        config.load(path, "train")
    content["simulate"]["people"] = 0
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match=r"simulate\.people: 0, expected at least 1"):
        config.load(path, "simulate")


@pytest.mark.parametrize(
    "key, value, expected",
    [
        ("simulate.noise", -1.0, "at least 0"),
        ("simulate.light_distance", 0.0, r"at least 0\.1"),
        ("simulate.light_distance", -1.0, r"at least 0\.1"),
        ("simulate.max_yaw_deg", 91.0, "0 to 90"),
        ("simulate.max_pitch_deg", 500.0, "0 to 90"),
        ("simulate.seed", -1, "at least 0"),
        ("prepare.light_distance", 0.0, r"at least 0\.1"),
        ("prepare.shadow", 2.0, "0 to 1"),
        ("prepare.workers", -1, "at least 0"),
        ("split.test_share", 1.5, "0 to 1"),
        ("evaluate.batch", 0, "at least 1"),
        ("evaluate.figure_rows", 0, "at least 1"),
        ("ablate.batch", 0, "at least 1"),
        ("label.shard_rows", 0, "at least 1"),
        ("label.batch", -1, "at least 0"),
        ("label.max_failed_share", 2.0, "0 to 1"),
        ("report.tested_faces", -1, "at least 0"),
    ],
)
def test_values_out_of_bounds_are_named(tmp_path, key, value, expected):
    section, name = key.split(".")
    content = yaml.safe_load(PARAMS.read_text())
    content[section][name] = value
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match=rf"params\.yaml: {key}: {value}, expected {expected}"):
        config.load(tmp_path / "params.yaml", section)


@pytest.mark.parametrize(
    "content", [b"split: {seed: \xff}", b"\xff\xfes\x00", "split: {seed: 1}".encode("utf-16")[:-1]]
)
def test_files_that_are_no_text_are_named(tmp_path, content):
    (tmp_path / "params.yaml").write_bytes(content)
    with pytest.raises(InputError, match=r"params\.yaml: "):
        config.load(tmp_path / "params.yaml", "split")


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("reconstruction", "l1", r"train\.reconstruction: 'l1', expected cosine or chord"),
        ("rec_pixels", "face", r"train\.rec_pixels: 'face', expected mask or all"),
        ("variation", "tv", r"train\.variation: 'tv', expected isotropic or anisotropic"),
        ("precision", "fp16", r"train\.precision: 'fp16', expected auto or fp32 or bf16"),
        ("replicas", 3, r"train\.replicas: 3 cannot share batches of 4"),
        ("log_every", 0, r"train\.log_every: 0, expected at least 1"),
        ("seed", -1, r"train\.seed: -1, expected at least 0"),
        ("workers", -1, r"train\.workers: -1, expected at least 0"),
        ("refinements", -1, r"train\.refinements: -1, expected at least 0"),
        ("weight_adv", -1, r"train\.weight_adv: -1\.0, expected at least 0"),
        ("weight_rec", float("nan"), r"train\.weight_rec: nan, expected at least 0"),
        ("demo.normalisation", "mean", "normalisation: 'mean', expected none or imagenet"),
        ("demo.width", 0, "train profile: width: 0, expected at least 1"),
        ("demo.ema", 1.0, r"ema: 1\.0, expected from 0, below 1"),
        ("demo.clip_norm", -1, r"clip_norm: -1\.0, expected at least 0"),
        ("demo.weight_decay", -1, r"weight_decay: -1\.0, expected at least 0"),
        ("demo.learning_rate", -1e-3, r"train schedule: learning_rate: -0\.001, expected at least 0"),
        ("demo.end_rate", -1e-3, r"train schedule: end_rate: -0\.001, expected at least 0"),
        ("demo.schedule", [], "an empty schedule"),
        ("demo.size", 100, "size a multiple of 32 from 64 on"),
        ("demo.portraits", "anny", r"train\.profiles\.demo\.portraits: expected keys and values, got 'anny'"),
        ("demo.portraits", PORTRAITS | {"heads": "x.npz"}, r"portraits\.heads: expected tuple, got 'x\.npz'"),
        ("demo.portraits", PORTRAITS | {"heads": []}, "at least one head model"),
        ("demo.portraits", PORTRAITS | {"count": 0}, "train portraits: count: 0, expected at least 1"),
        ("demo.portraits", PORTRAITS | {"held": -1}, "train portraits: held: -1, expected at least 0"),
        ("demo.portraits", PORTRAITS | {"cuont": 5}, r"portraits\.cuont: unknown key"),
        ("demo.augment", "flip", r"augment: expected tuple, got 'flip'"),
    ],
)
def test_impossible_trainings_are_named(tmp_path, key, value, message):
    content = yaml.safe_load(PARAMS.read_text())
    place = content["train"]
    if key in ("demo.size", "demo.augment", "demo.learning_rate", "demo.end_rate"):
        place, key = place["profiles"]["demo"]["schedule"][0], key.partition(".")[2]
    elif key.startswith("demo."):
        place, key = place["profiles"]["demo"], key.removeprefix("demo.")
    place[key] = value
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match=message):
        config.load(path, "train")
