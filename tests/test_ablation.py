"""Ablations: the matrix is the issue's list, tables say what was measured beside what is reported, one variant runs."""

import dataclasses
import json
import re
import runpy
import sys
from contextlib import nullcontext

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import ROOT

from casfne import config
from casfne.corpora.samples import write_archive, write_index
from casfne.errors import InputError
from casfne.evaluation import reported
from casfne.evaluation.ablation import VARIANTS, costs_table, errors_table
from casfne.evaluation.protocol import PROTOCOL
from casfne.model.cascade import CascadeConfig
from casfne.model.size import describe
from casfne.normals import sphere

SHARES = ("below_20_deg", "below_25_deg", "below_30_deg")


def numbers(mean, low=1.0):
    return {"mean_deg": mean, "std_deg": mean / 2, "low_deg": low, "high_deg": 20.0} | dict.fromkeys(SHARES, 0.5)


def result(variant, seed, mean, **changes):
    """As `ablate` writes it: the last stage's mean is ``mean``, the others' are far off."""
    last = VARIANTS[variant].refinements
    stages = {f"t{t}": numbers(mean if t == last else 80.0) for t in range(last + 1)}
    trivial = {"constant": numbers(30.0), "mean_map": numbers(17.0)}
    facts = {"variant": variant, "seed": seed, "profile": "ablation", "machine": "a processor_1"}
    counts = {"images": 40, "people": 5, "pixels": 1000, "protocol_sha256": PROTOCOL.sha256}
    return facts | counts | {"by_pixel": trivial | stages} | changes


@pytest.fixture
def results():
    """Two seeds of every variant; means 10, 11, ... with seed 7, and half a degree more with seed 8."""
    return [result(name, 7 + s, 10 + i + s / 2) for s in (0, 1) for i, name in enumerate(VARIANTS)]


def test_the_matrix_is_the_issues_list():
    entry = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["ablate"]
    assert entry["matrix"] == {"variant": list(VARIANTS), "seed": "${ablate.seeds}"}
    assert entry["cmd"].split()[2:] == ["${item.variant}", "${item.seed}"]
    changed = {tuple(dataclasses.astuple(variant)[2:]) for variant in VARIANTS.values()}
    stages = {(t, "cat", True, True) for t in range(6)}
    losses = {(2, "cat", adversarial, variation) for adversarial in (False, True) for variation in (False, True)}
    fusions = {(2, fusion, True, True) for fusion in ("cat", "adain", "fmm")}
    assert changed == stages | losses | fusions and len(changed) == len(VARIANTS) == 11


def test_every_variant_has_its_rows_in_the_paper():
    theirs = reported.errors("I")["name"].tolist()
    assert {variant.table1 for variant in VARIANTS.values()} == set(theirs[theirs.index("Rec") :])
    costs = {variant.table4 for variant in VARIANTS.values()} - {"", "t=6"}
    assert costs == set(reported.costs()["name"]) - {"CM", "HF"}


def test_a_variant_differs_from_train_in_what_it_is_named_after():
    settings_of = runpy.run_path(str(ROOT / "pipeline" / "ablate.py"))["settings_of"]
    train = config.load(ROOT / "params.yaml", "train")
    full = settings_of(VARIANTS["t2"], train, "ablation", 11)
    assert full == dataclasses.replace(train, profile="ablation", seed=11, refinements=2, fusion="cat")
    assert settings_of(VARIANTS["t4"], train, "ablation", 11) == dataclasses.replace(full, refinements=4)
    assert settings_of(VARIANTS["fmm"], train, "ablation", 11) == dataclasses.replace(full, fusion="fmm")
    assert settings_of(VARIANTS["rec_tv"], train, "ablation", 11) == dataclasses.replace(full, weight_adv=0.0)
    assert settings_of(VARIANTS["rec"], train, "paper", 11).weight_tv == 0
    with pytest.raises(InputError, match="nothing to take away"):
        settings_of(VARIANTS["rec"], dataclasses.replace(train, weight_tv=0.0), "ablation", 11)


def test_errors_are_the_last_stages_means_over_seeds_beside_the_papers(results):
    found = errors_table(results).numbers.set_index("variant")
    assert found.index.tolist() == ["constant", "mean_map", *VARIANTS]
    assert found.loc[list(VARIANTS), "mean_deg"].tolist() == pytest.approx(np.arange(11) + 10.25)
    assert found.loc["t2", ["mean_deg_seed_7", "mean_deg_seed_8"]].tolist() == [17.0, 17.5]
    assert found.loc["mean_map", "mean_deg"] == 17 and np.isnan(found.loc["mean_map", "reported_mean_deg"])
    paper = reported.errors("I").set_index("name")
    for name, variant in VARIANTS.items():
        for column in ("mean_deg", "std_deg", *SHARES):
            assert found.loc[name, f"reported_{column}"] == paper.loc[variant.table1, column]
    assert found["protocol_sha256"].eq(PROTOCOL.sha256).all() and found["people"].eq(5).all()


def test_every_form_of_a_table_says_the_same(results, tmp_path):
    errors_table(results).write(tmp_path / "table1")
    page, tex = ((tmp_path / f"table1.{kind}").read_text() for kind in ("md", "tex"))
    (line,) = (line for line in page.splitlines() if line.startswith("| t=2/"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    measured = ["17.25 ± 8.62", "50.00%", "50.00%", "50.00%", "1.00 to 20.00", "17.00", "17.50"]
    assert cells == ["t=2/Cas-FNE", *measured, "7.31 ± 5.92", "96.26%", "98.17%", "99.01%"]
    assert "reported mean ± std" in page and PROTOCOL.sha256[:12] in page and "seed 7 and 8" in page
    assert "a processor_1" in page
    assert f"t=2/Cas-FNE & {' & '.join(measured)}".replace("±", "$\\pm$").replace("%", "\\%") in tex
    assert tex.startswith("% ") and tex.count("\\begin{tabular}") == 1 == len(re.findall("toprule", tex))
    read = pd.read_csv(tmp_path / "table1.csv")
    pd.testing.assert_frame_equal(read, errors_table(results).numbers, check_dtype=False)


def test_one_seed_needs_no_columns_of_seeds_and_one_person_gives_no_interval(results):
    alone = [one | {"by_pixel": {k: v | {"low_deg": None} for k, v in one["by_pixel"].items()}} for one in results[:11]]
    cells = errors_table(alone).cells
    assert not [name for name in cells if name.startswith("seed")] and cells["95 %"].eq("").all()


def test_results_that_do_not_belong_together_are_refused(results):
    with pytest.raises(InputError, match="no result of fmm with seed 8"):
        errors_table([one for one in results if (one["variant"], one["seed"]) != ("fmm", 8)])
    for change, what in (
        ({"protocol_sha256": "0"}, "protocol"),
        ({"profile": "paper"}, "profile"),
        ({"pixels": 1}, "i"),
    ):
        with pytest.raises(InputError, match=f"more than one {what}"):
            errors_table([*results[1:], results[0] | change])
    with pytest.raises(InputError, match="another protocol"):
        errors_table([one | {"protocol_sha256": "0"} for one in results])


def test_costs_are_exact_and_beside_the_row_that_counts_alike(tmp_path):
    table = costs_table(rounds=1, device="cpu")
    found = table.numbers.set_index("name")
    assert found.index.tolist() == ["AdaIN", "FMM", "t=1", "t=2/Cas-FNE", "t=3", "t=4", "t=5", "t=6"]
    for row, size in zip(found.loc["t=1":].itertuples(), describe(CascadeConfig(32)), strict=True):
        exact = (size.refinements, size.multiply_adds, size.parameters)
        assert (row.refinements, row.multiply_adds, row.parameters) == exact
        said = row.reported_million_parameters  # what the paper's t means shows in its parameters
        assert row.refinements == 5 or round(row.parameters_counted_twice / 1e6, 1) == said
    assert found["milliseconds"].gt(0).all() and found.loc["t=6", "milliseconds"] > found.loc["t=1", "milliseconds"]
    table.write(tmp_path / "table4")
    page = (tmp_path / "table4.md").read_text()
    assert re.search(
        r"\| t=2/Cas-FNE \| 1 \| 5,4\d\d,\d{3},\d{3} \| 18,102,758 \| 29.3 M \| .* \| 20.2 G \| 29.3 M", page
    )
    assert re.search(r"\| t=6 \| 5 .*\|  \|  \|  \|", page)


# --- one variant, end to end ---


@pytest.fixture
def project(tmp_path):
    """Two people's spheres in samples, a split, and parameters for seconds of training."""
    n, mask = sphere(256)
    rows = []
    for i, light in enumerate(([0.5, 0.3, 0.8], [-0.5, 0.3, 0.8])):
        image = np.repeat((np.clip(n @ np.array(light), 0, 1) * 255 * mask).astype(np.uint8)[..., None], 3, -1)
        truth = {"normal": n, "mask": mask, "trust": mask * 1.0, "albedo": mask * 1.0}
        write_archive(tmp_path / "data" / "samples" / f"{i}.npz", image[None], truth)
        rows.append({"sample_id": f"{i}_0", "archive": f"{i}.npz", "light": 0, "subject": f"{i}", "source": "ball"})
    write_index(tmp_path / "data" / "samples", rows)
    (tmp_path / "data" / "split.json").write_text(json.dumps({"train": ["0"], "test": ["1"]}))
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    small = content["train"]["profiles"]["ablation"]
    part = {"size": 64, "batch": 2, "steps": 2, "learning_rate": 0.001, "end_rate": 0.001, "augment": ["flip"]}
    small |= {"width": 4, "schedule": [part]}
    content["ablation"]["rounds"] = 1
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
    return tmp_path


@pytest.fixture
def run(project, monkeypatch, capsys):
    """A stage's script in the project's folder: what it prints, and what it says of a mistake."""

    def one(script, *arguments, exits=None):
        monkeypatch.chdir(project)
        monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
        with pytest.raises(SystemExit) if exits else nullcontext():
            runpy.run_path(str(ROOT / "pipeline" / script), run_name="__main__")
        return "".join(capsys.readouterr())

    return one


def test_a_variant_is_trained_once_measured_and_gathered(project, run):
    data = project / "data" / "ablation"
    assert "step 2: loss" in run("ablate.py", "t1", 7)
    weights = (data / "models" / "t1-7" / "model.safetensors").read_bytes()
    first = json.loads((data / "results" / "t1-7.json").read_text())
    assert first["protocol_sha256"] == PROTOCOL.sha256
    assert set(first["by_pixel"]) == {"constant", "mean_map", "t0", "t1"}
    assert "step" not in run("ablate.py", "t1", 7)  # done already
    assert (data / "models" / "t1-7" / "model.safetensors").read_bytes() == weights
    (project / "data" / "split.json").write_text(json.dumps({"train": ["1"], "test": ["0"]}))
    assert "step 2: loss" in run("ablate.py", "t1", 7)  # other people: not what was asked for
    assert "rec-7.json: no result of `ablate`" in run("ablation.py", exits=True)
    for name, variant in VARIANTS.items():
        stages = first["by_pixel"] | {f"t{variant.refinements}": first["by_pixel"]["t1"]}
        (data / "results" / f"{name}-7.json").write_text(json.dumps(first | {"variant": name, "by_pixel": stages}))
    assert "| t=1 |" in run("ablation.py")
    metrics = json.loads((project / "data" / "metrics" / "ablation.json").read_text())
    assert metrics["fmm"]["mean_deg"] == pytest.approx(first["by_pixel"]["t1"]["mean_deg"])
    assert (data / "table1.tex").is_file() and (data / "table4.csv").is_file()


@pytest.mark.parametrize(
    "section, change, message",
    [
        ("ablate", {"profile": "papre"}, "train.profile: 'papre' is none of"),
        ("ablate", {"seeds": [7, 7]}, "ablate.seeds: [7, 7], expected one or more, each once"),
        ("ablate", {"seeds": []}, "ablate.seeds: [], expected one or more"),
        ("train", {"weight_tv": 0.0}, "nothing to take away"),
    ],
)
def test_mistakes_are_one_line(project, run, section, change, message):
    content = yaml.safe_load((project / "params.yaml").read_text())
    content[section] |= change
    (project / "params.yaml").write_text(yaml.safe_dump(content))
    said = run("ablate.py", "t1", 7, exits=True)
    assert message in said and len(said.splitlines()) == 1
