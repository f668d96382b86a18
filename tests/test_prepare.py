"""Preparing many sessions: what is done stays done, what is stale is made again, every session has its row."""

import functools
import json
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import ROOT
from test_photoface import write_session
from test_prepared import as_pictures

from casfne.corpora import fleet, photoface, sessions
from casfne.corpora.photoface import Settings, prepare_session, session_fingerprint
from casfne.corpora.samples import clear, read_index, read_record, read_sample, write_index
from casfne.errors import InputError
from casfne.files import write_text
from casfne.normals import angle_deg, direction_from_zenith, sphere
from casfne.stereo.photoface import ATTRIBUTE_NAMES, read_photoface

LIGHTS = direction_from_zenith([35, 35, 30, 30], [45, 135, 225, 315])
SETTINGS = Settings(0.03, 0.98)
CODE = "one version {}".format


def solve(capture, *_, delay=0.0):
    """In place of stereo: a ball, as bright as the capture's first picture."""
    time.sleep(delay)
    n, mask = sphere(capture.images.shape[1])
    surface = SimpleNamespace(normals=n, albedo=capture.grey[0], mask=mask, reason={})
    return SimpleNamespace(capture=capture, surface=surface, trust=mask * np.float32(0.5))


@pytest.fixture
def ball(monkeypatch):
    """Sessions are solved by `solve`, by code of one version."""
    monkeypatch.setattr(photoface, "solve_capture", solve)
    monkeypatch.setattr(photoface, "code_version", CODE)


def tree(root, people=2, each=2, size=64):
    """A Photoface tree of balls, no two alike."""
    for who in range(1, people + 1):
        for i in range(each):
            folder = root / f"{who:04d}" / f"2020-01-0{i + 1}_03-04-05"
            write_session(folder, LIGHTS * (0.5 + 0.1 * who + 0.05 * i), size)
    return root


def planned(root, out, settings=SETTINGS):
    return sessions.plan(root, out, root.parent / "truth", settings)


def prepared(root, out, **options):
    """One run: the table of sessions; the index is written."""
    plan = planned(root, out)
    outcomes = fleet.run(plan.tasks, **options)
    table = sessions.write_sessions(out, plan, outcomes)
    rows = [row for outcome in outcomes for row in outcome.rows]
    clear(out, rows)
    write_index(out, rows)
    return table


def stamps(out):
    return {path.name: path.stat().st_mtime_ns for path in out.glob("*.npz")}


# --- one session ---


def test_a_session_becomes_an_archive_that_says_how_it_was_made(ball, tmp_path):
    folder = tree(tmp_path / "in", 1, 1, 192) / "0001" / "2020-01-01_03-04-05"
    rows = prepare_session(folder, tmp_path, None, SETTINGS)
    assert [row["sample_id"] for row in rows] == [f"0001_2020-01-01_03-04-05_im{i}" for i in range(4)]
    assert {row["spectacles"] for row in rows} == {"no"} and set(ATTRIBUTE_NAMES) < set(rows[0])
    assert rows[0]["light_azimuth_deg"] == pytest.approx(np.degrees(np.arctan2(LIGHTS[0, 0], LIGHTS[0, 2])), abs=0.01)
    record = read_record(tmp_path / rows[0]["archive"])
    assert record.rows == rows and record.fingerprint == session_fingerprint(folder, None, SETTINGS)
    assert record.seconds > 0
    sample = read_sample(tmp_path, rows[0]["archive"], 3)
    assert sample.mask.any() and np.median(sample.trust[sample.mask]) == pytest.approx(0.5, abs=0.01)
    assert (sample.image[..., 0] == sample.image[..., 1]).all() and sample.image.max() > 100


def test_exact_normals_and_the_owners_are_compared(ball, tmp_path):
    from scipy.io import savemat

    folder = tree(tmp_path / "in", 1, 1, 192) / "0001" / "2020-01-01_03-04-05"
    n, mask = sphere(192)
    tilted = n + np.float32([0.1, 0, 0])
    np.savez(tmp_path / "truth.npz", normal=tilted.astype(np.float16), mask=mask)
    with np.errstate(divide="ignore", invalid="ignore"):
        savemat(folder / "sn.mat", {"px": n[..., 0] / n[..., 2], "py": n[..., 1] / n[..., 2]})  # px has the other sign
        savemat(folder / "albedo.mat", {"albedo": 9 * read_photoface(folder).grey[0]})
    row = prepare_session(folder, tmp_path, tmp_path / "truth.npz", SETTINGS)[0]
    expected = angle_deg(n, tilted / np.linalg.norm(tilted, axis=-1, keepdims=True))[mask].mean()
    assert row["stereo_error_deg"] == pytest.approx(expected, abs=0.05) and row["stereo_pixels"] == mask.sum()
    assert row["authors_axes"] == "-x, y" and row["authors_axes_error_deg"] < 0.1 < row["authors_error_deg"]
    assert row["authors_albedo_error"] < 1e-5


def test_a_session_that_cannot_be_used_leaves_no_archive(ball, monkeypatch, tmp_path):
    folder = tree(tmp_path / "in", 1, 1) / "0001" / "2020-01-01_03-04-05"

    def dark(capture, *_):
        found = solve(capture)
        found.surface.mask[:] = False
        return found

    with monkeypatch.context() as patched, pytest.raises(InputError, match="no face pixel"):
        patched.setattr(photoface, "solve_capture", dark)
        prepare_session(folder, tmp_path / "out", None, SETTINGS)
    (folder / "metadata.txt").unlink()
    with pytest.raises(InputError, match=r"no metadata\.txt"):
        prepare_session(folder, tmp_path / "out", None, SETTINGS)
    assert not (tmp_path / "out").exists()


def test_an_archive_without_a_sound_record_is_none_of_ours(tmp_path):
    np.savez(tmp_path / "other.npz", normal=np.zeros(3))
    (tmp_path / "broken.npz").write_bytes(b"PK\3\4 no zip")
    (tmp_path / "empty.npz").write_bytes(b"")
    np.savez(tmp_path / "odd.npz", record=np.frombuffer(b'{"rows": []}', np.uint8))
    for name in ("other", "broken", "empty", "odd", "missing"):
        assert read_record(tmp_path / f"{name}.npz") is None


# --- what is done, what is stale ---


def test_a_second_run_changes_no_byte(ball, tmp_path):
    root, out = tree(tmp_path / "in"), tmp_path / "out"
    (root / "0001" / "2020-01-01_03-04-05" / "im0.bmp").write_bytes(b"")
    prepared(root, out)
    before = {path: (path.stat().st_ino, path.read_bytes()) for path in out.glob("*.npz")}
    tables = [(out / name).read_bytes() for name in ("index.parquet", "sessions.parquet")]
    prepared(root, out)  # the bad session is tried again, in another time
    assert {path: (path.stat().st_ino, path.read_bytes()) for path in out.glob("*.npz")} == before and len(before) == 3
    assert [(out / name).read_bytes() for name in ("index.parquet", "sessions.parquet")] == tables


def _touch_lights(root, monkeypatch):
    write_text(root / "0001" / "2020-01-01_03-04-05" / "LightSource.m", "[30 45; 35 135; 30 225; 30 315]")


def _add_truth(root, monkeypatch):
    n, mask = sphere(64)
    (root.parent / "truth" / "0001").mkdir(parents=True)
    np.savez(root.parent / "truth" / "0001" / "2020-01-01_03-04-05.npz", normal=n, mask=mask)


def _break_archive(root, monkeypatch):
    path = root.parent / "out" / "0001_2020-01-01_03-04-05.npz"
    path.write_bytes(path.read_bytes()[:-50])


@pytest.mark.parametrize("change", [_touch_lights, _add_truth, _break_archive])
def test_what_changed_is_made_again_and_nothing_else(ball, monkeypatch, tmp_path, change):
    root, out = tree(tmp_path / "in"), tmp_path / "out"
    prepared(root, out)
    before = stamps(out)
    change(root, monkeypatch)
    prepared(root, out)
    assert [name for name, stamp in stamps(out).items() if stamp != before[name]] == ["0001_2020-01-01_03-04-05.npz"]
    assert len(sessions.survey(planned(root, out).tasks)) == 4


def test_other_settings_or_code_make_all_stale(ball, monkeypatch, tmp_path):
    root, out = tree(tmp_path / "in"), tmp_path / "out"
    prepared(root, out)
    assert len(sessions.survey(planned(root, out).tasks)) == 4
    for other in (Settings(0.04, 0.98), Settings(0.03, 0.98, 1.5)):
        assert not sessions.survey(planned(root, out, other).tasks)
    monkeypatch.setattr(photoface, "code_version", lambda *parts: "another")
    assert not sessions.survey(planned(root, out).tasks)


def test_a_copy_of_the_tree_is_the_same_session(ball, tmp_path):
    root, out = tree(tmp_path / "in"), tmp_path / "out"
    prepared(root, out)
    root.rename(tmp_path / "moved")
    for path in (tmp_path / "moved").rglob("*.*"):
        os.utime(path, (1, 1))
    assert len(sessions.survey(planned(tmp_path / "moved", out).tasks)) == 4


def test_archives_of_no_session_go(ball, tmp_path):
    root, out = tree(tmp_path / "in"), tmp_path / "out"
    prepared(root, out)
    (root / "0002" / "2020-01-01_03-04-05" / "im3.bmp").unlink()
    (out / ".0001_x.npz.99.tmp").touch()
    np.savez(out / "mine.npz", anything=np.zeros(3))
    table = prepared(root, out)
    assert (table["status"] == "ok").sum() == 3 and not (out / "0002_2020-01-01_03-04-05.npz").exists()
    assert not (out / ".0001_x.npz.99.tmp").exists() and (out / "mine.npz").exists()


# --- a row for every session ---


def test_every_session_has_a_row(ball, monkeypatch, tmp_path):
    def breaks(capture, *_):
        if capture.name.startswith("0003"):
            raise ZeroDivisionError("nobody foresaw this")
        return solve(capture)

    root, out = tree(tmp_path / "in", 3), tmp_path / "out"
    monkeypatch.setattr(photoface, "solve_capture", breaks)
    (root / "0001" / "2020-01-01_03-04-05" / "im2.bmp").write_bytes(b"no picture")
    (root / "0002" / "2020-01-02_03-04-05" / "LightSource.m").unlink()
    (root / "0002" / "2020-01-01_03-04-05" / "metadataII.txt").write_text("male,yes,beard,2,blur,hand,positive,more\n")
    seen = []
    table = prepared(root, out, progress=lambda done, total: seen.append((done, total))).set_index("session_id")
    assert table["status"].value_counts().to_dict() == {"ok": 2, "failed": 4} and table.index.is_monotonic_increasing
    assert table.loc["0001_2020-01-01_03-04-05", "reason"] == "im2.bmp: not an image"
    assert table.loc["0002_2020-01-02_03-04-05", "reason"] == "incomplete session, no LightSource.m"
    assert table.loc["0003_2020-01-01_03-04-05", "reason"].startswith(
        "ZeroDivisionError: nobody foresaw this (test_pre"
    )
    assert (table.loc[table["status"] == "ok", "seconds"] > 0).all() and seen[-1] == (5, 5)
    assert table.loc["0003_2020-01-02_03-04-05", "gender"] == "female"  # failed, and yet described
    assert str(tmp_path) not in (out / "sessions.parquet").read_text("latin-1")
    written = pd.read_parquet(out / "sessions.parquet")
    chosen = written.query("spectacles == 'no' and pose == '1' and quality == 'ok' and status == 'ok'")
    assert chosen["session_id"].tolist() == ["0001_2020-01-02_03-04-05"]
    index = read_index(out)
    assert (
        index.query("spectacles == 'yes' and facial_hair == 'beard'")["session"].tolist() == ["2020-01-01_03-04-05"] * 4
    )
    assert index["notes"].isna().all() and set(index["more"].dropna()) == {"more"}


def test_nothing_usable_is_said_and_nothing_found_is_an_error(tmp_path):
    (tmp_path / "in" / "0001" / "2020-01-01_03-04-05").mkdir(parents=True)
    plan = planned(tmp_path / "in", tmp_path / "out")
    assert not plan.tasks and next(iter(plan.rejected.values())).startswith("incomplete session")
    with pytest.raises(InputError, match="no session"):
        planned(tmp_path / "in" / "0001" / "2020-01-01_03-04-05", tmp_path / "out")
    with pytest.raises(InputError, match="no such folder"):
        planned(tmp_path / "nowhere", tmp_path / "out")


def test_prepared_copies_are_sessions_too(ball, tmp_path):
    root, out = tree(tmp_path / "in"), tmp_path / "out"
    as_pictures(root / "0001" / "2020-01-01_03-04-05", 64)  # of a session that is there itself
    as_pictures(root / "0002" / "2020-01-09_03-04-05", 64)
    as_pictures(root / "0009" / "any", 64, faces=())
    table = prepared(root, out).set_index("session_id")
    assert table["status"].value_counts().to_dict() == {"ok": 5, "failed": 1}
    assert table.loc["0002_2020-01-09_03-04-05", "source"] == "photoface-prepared"
    assert table.loc["0001_2020-01-01_03-04-05", "source"] == "photoface"
    assert table.loc["0009_any", "reason"] == "prepared session, no face"
    before = stamps(out)
    prepared(root, out)
    assert stamps(out) == before and len(read_index(out)) == 4 * 4 + 2


def test_a_stray_crop_in_a_whole_session_is_no_session_of_its_own(ball, tmp_path):
    root, out = tree(tmp_path / "in", 1, 1), tmp_path / "out"
    (root / "0001" / "2020-01-01_03-04-05" / "im0_crop.jpg").write_bytes(b"of some other tool")
    assert prepared(root, out)["session_id"].tolist() == ["0001_2020-01-01_03-04-05"]


def test_only_copies_are_a_tree_as_well(tmp_path):
    as_pictures(tmp_path / "in" / "0002" / "2020-01-09_03-04-05", 64)
    assert prepared(tmp_path / "in", tmp_path / "out")["status"].tolist() == ["ok"]


# --- the stage ---


def run_stage(monkeypatch, folder, **changes):
    """The stage as DVC runs it, in ``folder``, over its `in`."""
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    content["prepare"] |= {"root": "in"} | changes
    (folder / "params.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.chdir(folder)
    runpy.run_path(str(ROOT / "pipeline" / "prepare.py"), run_name="__main__")


def test_the_stage_counts_and_refuses(ball, monkeypatch, capsys, tmp_path):
    root, out = tree(tmp_path / "in"), tmp_path / "data" / "samples"
    run_stage(monkeypatch, tmp_path)
    metrics = json.loads((tmp_path / "data" / "metrics" / "prepare.json").read_text())
    assert metrics | {"sessions": 4, "people": 2, "images": 16, "failed_sessions": 0} == metrics
    (root / "0001" / "2020-01-01_03-04-05" / "im2.bmp").unlink()
    with pytest.raises(SystemExit) as stop:
        run_stage(monkeypatch, tmp_path)
    message = capsys.readouterr().err
    assert stop.value.code == 1 and message.count("error:") == 1
    assert "1 of 4 sessions cannot be used: 0001/2020-01-01_03-04-05: incomplete session, no im2.bmp" in message
    assert not (out / "index.parquet").exists()  # it would speak of archives that have been made anew
    assert pd.read_parquet(out / "sessions.parquet")["status"].tolist() == ["failed", "ok", "ok", "ok"]
    run_stage(monkeypatch, tmp_path, max_failed_share=0.25)
    assert json.loads((tmp_path / "data" / "metrics" / "prepare.json").read_text())["failed_sessions"] == 1
    assert len(read_index(out)) == 12


# --- many processes ---


def fake(archive, kill=None):
    """What a task makes, for tests of the fleet alone; ``kill``: a file to die beside, once."""
    if kill is not None and not kill.exists():
        kill.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if archive.stem == "deadly":
        os.kill(os.getpid(), signal.SIGKILL)
    if archive.stem == "bad":
        raise InputError(f"{archive.parent}: bad")
    archive.touch()
    return [{"archive": archive.name, "process": os.getpid()}]


def fake_tasks(folder, *names, kill=None):
    archives = [folder / f"{name}.npz" for name in names]
    make = [functools.partial(fake, archive, kill if archive.stem == "once" else None) for archive in archives]
    return [sessions.Task("0001", a.stem, folder, a, m, str) for a, m in zip(archives, make, strict=True)]


def test_a_small_run_starts_no_processes(monkeypatch, tmp_path):
    monkeypatch.setattr(fleet, "processors", lambda: 8)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    asked = []
    monkeypatch.setattr(
        fleet, "_spread", lambda todo, workers, address: asked.append((len(todo), workers, address)) or ()
    )
    names = [f"s{i}" for i in range(15)]
    assert {o.rows[0]["process"] for o in fleet.run(fake_tasks(tmp_path, *names))} == {os.getpid()} and not asked
    for count, workers, address in ((16, 0, None), (40, 0, None), (400, 3, None), (2, 0, "ray://there")):
        names = [f"t{i}" for i in range(count)]
        with pytest.raises(KeyError):  # nothing was made
            fleet.run(fake_tasks(tmp_path, *names), workers=workers, address=address)
    assert asked == [(16, 2, None), (40, 5, None), (400, 3, None), (2, 0, "ray://there")]


def test_a_session_that_kills_its_worker_costs_itself_alone(monkeypatch, tmp_path):
    import ray

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(fleet, "SMALL", 3)
    tasks = fake_tasks(tmp_path, "a", "bad", "b", "deadly", "c", "once", "d", kill=tmp_path / "killed")
    before = ray.is_initialized()  # another test's, perhaps: it stays
    outcomes = fleet.run(tasks, workers=2)
    reasons = {task.session: outcome.reason for task, outcome in zip(tasks, outcomes, strict=True) if outcome.reason}
    assert reasons.keys() == {"bad", "deadly"} and reasons["bad"] == "bad"
    assert reasons["deadly"].startswith("its worker failed: WorkerCrashedError")
    made = [outcome.rows[0]["archive"] for outcome in outcomes if outcome.rows]
    assert made == ["a.npz", "b.npz", "c.npz", "once.npz", "d.npz"]  # in the order of the tasks
    assert os.getpid() not in {outcome.rows[0]["process"] for outcome in outcomes if outcome.rows}
    assert ray.is_initialized() == before


KILLED = """
import functools, sys
sys.path.insert(0, {tests!r})
import test_prepare as t
t.photoface.solve_capture, t.photoface.code_version = functools.partial(t.solve, delay=0.3), t.CODE
t.prepared(t.Path({root!r}), t.Path({out!r}), workers=1)
"""


def test_a_killed_run_goes_on_to_the_same_result(ball, tmp_path):
    root, out, clean = tree(tmp_path / "in", 3), tmp_path / "out", tmp_path / "clean"
    code = KILLED.format(tests=str(Path(__file__).parent), root=str(root), out=str(out))
    running = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 60
    while len(stamps(out)) < 2 and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    running.send_signal(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    kept = stamps(out)
    assert 2 <= len(kept) < 6 and not (out / "index.parquet").exists()
    tables = prepared(root, out), prepared(root, clean)
    assert stamps(out).items() >= kept.items()
    pd.testing.assert_frame_equal(*(table.drop(columns="seconds") for table in tables))
    assert (out / "index.parquet").read_bytes() == (clean / "index.parquet").read_bytes()
    for path in clean.glob("*.npz"):
        with np.load(path) as once, np.load(out / path.name) as again:
            assert all(np.array_equal(once[name], again[name]) for name in once.files if name != "record")
