"""The house: which parts may import which, and that DVC's dependencies are the true ones."""

import ast
import subprocess
import sys

import pytest
import yaml
from conftest import ROOT
from imports import closure, direct

STAGES = ("simulate", "prepare", "split", "train", "evaluate", "ablate", "ablation", "label", "report")
FILES = sorted((ROOT / "casfne").rglob("*.py"))
LEAVES = (
    "normals",
    "config",
    "schema",
    "provenance",
    "errors",
    "files",
    "images",
    "cluster",
    "console",
    "sources",
    "octahedral",
)
# part -> the parts that it may import besides itself, `errors` and `files`
ALLOWED = {
    "capture": {"normals", "images"},
    "stereo": {"normals", "images"},
    "corpora": {"capture", "cluster", "normals", "images", "provenance", "sources", "stereo"},
    "model": {"images", "normals", "provenance"},
    "training": {"config", "cluster", "provenance", "capture", "corpora", "model", "evaluation"},
    "applied": {"normals", "images", "capture", "stereo"},
    "evaluation": {"normals", "images", "corpora", "model", "provenance"},
    "labelling": {
        *("cluster", "normals", "images", "corpora", "model", "octahedral", "schema", "table", "provenance", "sources")
    },
    "report": {"applied", "normals", "images", "corpora", "evaluation", "schema", "sources", "table"},
    "label_files": {"schema", "sources"},
    "table": {"label_files", "normals", "octahedral", "schema", "sources"},
}


def part(file):
    return file.relative_to(ROOT / "casfne").parts[0].removesuffix(".py")


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_imports_go_one_way(file):
    imported = {part(f) for f in direct(file)} - {part(file), "errors", "files"}
    if part(file) in LEAVES:
        assert not imported
    elif part(file) in ALLOWED:
        assert imported <= ALLOWED[part(file)]
    else:
        assert part(file) in ("cli", "apply", "ask", "board", "report_command", "studio", "truth", "__init__")


def test_metrics_import_normals_alone():
    assert {part(f) for f in direct(ROOT / "casfne" / "evaluation" / "metrics.py")} == {"normals"}


def test_only_the_fleets_import_ray():
    users = [str(f.relative_to(ROOT / "casfne")) for f in FILES if any(n.split(".")[0] == "ray" for n in _modules(f))]
    assert users == ["cluster.py", "corpora/fleet.py", "labelling/fleet.py", "training/fleet.py"]
    fleets = [ROOT / "casfne" / name for name in users[1:]]
    assert [f for f in FILES if set(fleets) & set(direct(f))] == [ROOT / "casfne" / "cli.py"]


def test_the_library_knows_no_path_of_data():
    for file in FILES:
        if part(file) not in ("cli", "console"):
            assert '"data/' not in file.read_text().replace("`make repro` trains data/", ""), file


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_a_script_a_section_and_its_true_dependencies(stage):
    entry = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][stage]
    script = ROOT / "pipeline" / f"{stage}.py"
    assert entry["cmd"].split(" ${item.")[0] == f"python pipeline/{stage}.py" and stage in entry["params"]
    assert entry["desc"]
    listed = {d for d in entry["deps"] if d.endswith(".py")}
    assert listed == {f"pipeline/{stage}.py"} | {str(f.relative_to(ROOT)) for f in closure(script)}
    assert len(script.read_text().splitlines()) <= 80
    assert f"`{stage}`" in (ROOT / "README.md").read_text()


def test_stages_do_not_import_each_other():
    for stage in STAGES:
        assert not [m for m in _modules(ROOT / "pipeline" / f"{stage}.py") if m.startswith("pipeline")]


def test_no_stage_is_missing_from_the_graph():
    assert tuple(yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]) == STAGES
    assert tuple(yaml.safe_load((ROOT / "params.yaml").read_text())) == STAGES


@pytest.mark.parametrize("module", ["torch", "ray", "anny", "dlib", "matplotlib"])
def test_asking_for_help_imports_nothing_heavy(module):
    code = f"import sys, casfne.cli; sys.exit({module!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_the_lock_names_no_place_and_pins_by_hash():
    text = (ROOT / "requirements.lock").read_text()
    assert "://" not in text
    pins = [line for line in text.splitlines() if "==" in line]
    assert len(pins) > 50 and all(line.rstrip().endswith("\\") for line in pins)
    assert text.count("--hash=sha256:") > len(pins)


def _modules(file):
    tree = ast.parse(file.read_text())
    froms = [n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module]
    return froms + [a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names]
