"""The leaderboard: tables that say the same, what was measured apart from what is reported, boards that grow."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from typer.testing import CliRunner

from casfne.board import board_app
from casfne.errors import InputError
from casfne.evaluation import leaderboard, reported
from casfne.evaluation.compare import Method, compare
from casfne.evaluation.leaderboard import Board
from casfne.evaluation.protocol import PROTOCOL
from casfne.files import write_array
from casfne.images import write_image
from casfne.normals import angle_deg, direction, normalise, sphere

BALL, INSIDE = sphere(48)
RUNNER = CliRunner()


def off_by(degrees: float) -> np.ndarray:
    """The ball's normals turned about y."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return (BALL @ np.float32([[c, 0, -s], [0, 1, 0], [s, 0, c]])).astype(np.float32)


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    for name in ("a", "b", "c"):
        write_array(tmp_path / "truth" / "normals" / f"{name}.npy", normalise(BALL))
        write_image(tmp_path / "truth" / "masks" / f"{name}.png", INSIDE.astype(np.uint8) * 255)
    return tmp_path / "truth"


def method(folder: Path, name: str, degrees: float, ids: str = "abc") -> Method:
    for one in ids:
        write_array(folder / name / f"{one}.npy", off_by(degrees))
    return Method(name, folder / name)


def test_every_table_says_what_the_json_says(truth: Path, tmp_path: Path) -> None:
    methods = [method(tmp_path, "worse_1 & 50%", 9), method(tmp_path, "better|", 3), method(tmp_path, "HF", 6)]
    results = compare(truth, methods, tmp_path / "board")
    assert json.loads((tmp_path / "board" / "leaderboard.json").read_text()) == results
    assert set(results) == {m.name for m in methods}
    mean = angle_deg(off_by(3), BALL)[INSIDE].mean()
    assert results["better|"]["by_pixel"]["mean_deg"] == pytest.approx(mean) and 1 < mean < 3
    for result in results.values():
        assert result["protocol_sha256"] == PROTOCOL.sha256 and result["kind"] == "measured"
        assert result["protocol"] == PROTOCOL.as_dict()
    table = pd.read_parquet(tmp_path / "board" / "leaderboard.parquet")
    pd.testing.assert_frame_equal(table, pd.read_csv(tmp_path / "board" / "leaderboard.csv"), check_dtype=False)
    assert list(table["name"][:3]) == ["better|", "HF", "worse_1 & 50%"]
    for name, result in results.items():
        row = table[(table["kind"] == "measured") & (table["name"] == name)].iloc[0]
        assert row["mean_deg"] == result["by_pixel"]["mean_deg"] and row["images"] == 3
    lines = (tmp_path / "board" / "leaderboard.md").read_text().splitlines()
    tables = [line for line in lines if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in tables[:5]}) == 1
    assert f"{mean:.2f} ± " in tables[2] and tables[2].startswith("| better\\| |")
    tex = (tmp_path / "board" / "leaderboard.tex").read_text()
    assert "worse\\_1 \\& 50\\%" in tex and f"{mean:.2f} $\\pm$ " in tex
    for tabular in re.findall(r"\\begin\{tabular\}\{(l r*|lr*)\}(.*?)\\end", tex, re.S):
        rows = [line for line in tabular[1].splitlines() if line.endswith("\\\\")]
        assert {len(re.findall(r"(?<!\\)&", line)) + 1 for line in rows} == {len(tabular[0])}


def test_what_the_paper_reports_is_marked_and_apart(truth: Path, tmp_path: Path) -> None:
    compare(truth, [method(tmp_path, "HF", 6)], tmp_path / "board")
    table = pd.read_csv(tmp_path / "board" / "leaderboard.csv")
    assert list(table["kind"]) == ["measured"] + ["reported"] * (len(table) - 1)
    hf = table[table["name"] == "HF"].set_index("source")["mean_deg"]
    assert hf["paper, Table II, Photoface"] == 11.3 and hf["paper, Table III, Florence"] == 10.1 and len(hf) == 3
    assert table["protocol_sha256"].notna().sum() == 1
    parts = (tmp_path / "board" / "leaderboard.md").read_text().split("## ")
    assert [part.partition(":")[0] for part in parts[1:]] == ["Measured", "Reported", "Reported"]
    assert "Cas-FNE" not in parts[1] and "| Cas-FNE | 7.31 ± 5.92 | 96.26% |" in parts[2]
    assert set(json.loads((tmp_path / "board" / "leaderboard.json").read_text())) == {"HF"}


def test_the_reported_numbers_hold_together() -> None:
    names = {table: set(reported.errors(table)["name"]) for table in ("I", "II", "III")}
    methods = {"SfSNet", "PRN", "CM", "RAFaRe", "UberNet", "NiW", "Marr Rev", "SfSNet-ft", "CM-ft", "LAP", "HF"}
    assert names["II"] == methods | {"Cas-FNE"} and "3DDFA" in names["III"] and len(names["I"]) == 15
    for table in names:
        frame = reported.errors(table)
        shares = frame[["below_20_deg", "below_25_deg", "below_30_deg"]].to_numpy()
        assert (np.diff(shares, axis=1) > 0).all() and shares.min() > 0.3 and shares.max() < 1
        assert frame["mean_deg"].between(7, 30).all() and frame["kind"].eq("reported").all()
    one, two = (reported.errors(table).set_index("name").drop(columns="source") for table in ("I", "II"))
    assert one.loc["t=2/Cas-FNE"].equals(two.loc["Cas-FNE"])
    assert len(reported.costs()) == 9 and reported.costs()["milliseconds"].between(11, 79).all()


def test_they_are_the_papers_own(shared_data: Path) -> None:
    paper = shared_data.parent / "reference" / "paper.txt"
    if not paper.is_file():
        pytest.skip("no text of the paper: ../shared/reference/paper.txt does not exist")
    text = paper.read_text()
    for table in ("I", "II", "III"):
        for row in reported.errors(table).itertuples():
            means, stds = ([f"{value:.{digits}f}" for digits in (1, 2)] for value in (row.mean_deg, row.std_deg))
            found = rf"({'|'.join(means)})\s*±\s*({'|'.join(stds)})(?!\d)"
            assert re.search(found, text), row.name
            shares = [100 * row.below_20_deg, 100 * row.below_25_deg, 100 * row.below_30_deg]
            assert all(re.search(rf"(?<![\d.]){share:g}(\.?0)?\s?%", text) for share in shares), row


def test_a_board_grows_and_replaces(truth: Path, tmp_path: Path) -> None:
    board = tmp_path / "board"
    compare(truth, [method(tmp_path, "one", 9)], board)
    compare(truth, [method(tmp_path, "two", 3)], board)
    both = compare(truth, [Method("one", tmp_path / "two")], board)
    assert set(both) == {"one", "two"} and both["one"]["by_pixel"] == both["two"]["by_pixel"]
    assert pd.read_parquet(board / "per_image.parquet")["name"].value_counts().to_dict() == {"one": 3, "two": 3}


def test_results_that_come_at_once_all_stay(truth: Path, tmp_path: Path) -> None:
    board, methods = tmp_path / "board", [method(tmp_path, f"m{i}", i) for i in range(6)]

    def meanwhile(name: str, done: int, total: int) -> None:
        if done == total:
            compare(truth, [methods[1]], board)

    compare(truth, [methods[0]], board, on_image=meanwhile)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda one: compare(truth, [one], board), methods[2:]))
    assert set(Board(board).results) == {one.name for one in methods}
    assert pd.read_parquet(board / "per_image.parquet")["name"].nunique() == len(methods)


def test_boards_of_another_truth_or_protocol_are_left_alone(truth: Path, tmp_path: Path) -> None:
    board = tmp_path / "board"
    compare(truth, [method(tmp_path, "one", 9)], board)
    before = {path: path.read_bytes() for path in board.iterdir()}
    write_array(truth / "normals" / "a.npy", np.broadcast_to(direction(1, 2), BALL.shape))
    seen = set[str]()
    with pytest.raises(InputError, match="another truth"):
        both = [method(tmp_path, "two", 3), method(tmp_path, "three", 3)]
        compare(truth, both, board, on_image=lambda name, *_: seen.add(name))
    assert seen == {"two"}  # the next one's work is spared
    changed = json.loads((board / "leaderboard.json").read_text())
    changed["one"]["protocol_sha256"] = "0" * 64
    assert {path: path.read_bytes() for path in board.iterdir()} == before
    (board / "leaderboard.json").write_text(json.dumps(changed))
    with pytest.raises(InputError, match="another protocol"):
        compare(truth, [Method("two", tmp_path / "two")], board)
    (board / "leaderboard.json").write_text("[1]")
    with pytest.raises(InputError, match="no leaderboard"):
        compare(truth, [Method("two", tmp_path / "two")], board)


def test_the_command_takes_several_and_says_what_lacks(truth: Path, tmp_path: Path) -> None:
    good, short = method(tmp_path, "good", 3), method(tmp_path, "short", 3, "ab")
    arguments = ["--truth", str(truth), "--out", str(tmp_path / "board"), "--predictions"]
    done = RUNNER.invoke(board_app, [*arguments, f"good={good.folder}:opengl"])
    assert done.exit_code == 0 and "good: " in done.stdout and (tmp_path / "board" / "leaderboard.tex").exists()
    done = RUNNER.invoke(board_app, [*arguments, f"good={good.folder}", f"short={short.folder}:opencv"])
    assert isinstance(done.exception, InputError) and "short: not every pixel" in str(done.exception)
    assert "short: 1 of 3 maps are missing, counted as 90 degrees: c" in done.stderr
    assert "frame opencv: frame opengl fits the truth better" in done.stderr and "good: 1" not in done.stderr
    remarks = (tmp_path / "board" / "leaderboard.md").read_text()
    assert "- short: 1 of 3 maps are missing" in remarks
    assert set(leaderboard.rows(json.loads((tmp_path / "board" / "leaderboard.json").read_text()))["name"][:2]) == {
        "good",
        "short",
    }


def test_the_example_of_the_page_runs(truth: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    method(tmp_path / "out", "ours", 3)
    method(tmp_path / "out", "theirs", 9)
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs" / "leaderboard.md").read_text(), re.M | re.S)
    exec(block, {})
    assert len(capsys.readouterr().out.split()) == 2
    assert "opengl" in (tmp_path / "out" / "board" / "leaderboard.md").read_text()


def test_the_page_tells_the_protocol_that_is() -> None:
    page = (ROOT / "docs" / "leaderboard.md").read_text()
    assert PROTOCOL.sha256 in page and f"version {PROTOCOL.version}" in page
    for number in (*PROTOCOL.thresholds_deg, PROTOCOL.resamples, PROTOCOL.missing_deg):
        assert f"{number:,g}" in page
    assert all(region in page for region in PROTOCOL.regions)
