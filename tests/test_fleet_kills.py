"""The fleet under fire: workers, drivers, machines and disks die; every image is there exactly once, byte for byte.

The same, longer and at random: tests/soak, by `make soak`.
"""

import random
import signal
import time
from pathlib import Path

import pytest
from chaos import (
    BLUE,
    RED,
    check,
    disk,
    draw,
    killing,
    paint,
    pids,
    ray_here,
    run_fleet,
    run_on_dying_cluster,
    run_on_flaky_store,
    snapshot,
    start_driver,
    store,
    undisturbed,
    wait_until,
)

from casfne import table
from casfne.corpora.record import Photo
from casfne.labelling import suspects

COUNT = 24

pytestmark = pytest.mark.usefixtures("ray_here")


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> list[Photo]:
    return draw(tmp_path_factory.mktemp("photos"), COUNT)


def test_two_runs_give_the_same_bytes(photos, undisturbed, tmp_path: Path) -> None:
    check(photos, tmp_path / "again", run_fleet(photos, tmp_path / "again"), undisturbed)


@pytest.mark.parametrize("kind", ["model", "decode"])
def test_killed_workers_are_replaced_and_no_image_is_blamed(kind, photos, undisturbed, pids, tmp_path) -> None:
    with killing(pids, kind, random.Random(3), most=2) as killed:
        summary = run_fleet(photos, tmp_path / "out", pids, delay=0.05)
    assert killed
    check(photos, tmp_path / "out", summary, undisturbed)


def test_a_killed_driver_goes_on_where_it_was(photos, undisturbed, pids, tmp_path) -> None:
    out = tmp_path / "out"
    driver = start_driver(Path(photos[0].path).parent, out, pids, COUNT, 0.3)
    wait_until(lambda: len(table.parts(out)) >= 2 or driver.poll() is not None)
    driver.send_signal(signal.SIGKILL)
    assert driver.wait() == -signal.SIGKILL
    time.sleep(1)  # its Ray ends with it; a shard under way may still appear, whole
    assert not (out / "_summary.json").exists()
    kept = {path: path.stat().st_mtime_ns for path in table.parts(out)}
    assert 2 <= len(kept) < COUNT // 4
    check(photos, out, run_fleet(photos, out), undisturbed)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_a_machine_that_dies_takes_nothing_along(photos, undisturbed, tmp_path) -> None:
    out = tmp_path / "out"
    assert run_on_dying_cluster(Path(photos[0].path).parent, out, COUNT, 0.2, seed=1) == 0
    check(photos, out, run_fleet(photos, out), undisturbed)


def test_a_full_disk_is_reported_and_the_run_goes_on_when_there_is_room(photos, undisturbed, tmp_path) -> None:
    size = sum(map(len, undisturbed.values()))
    with disk(tmp_path / "disk", f"{size // 2048}k") as small:
        out = small.folder / "out"
        summary = run_fleet(photos, out)
        assert 0 < summary.missing < COUNT
        assert "No space left" in summary.failures[0]
        assert not (out / "_summary.json").exists() and not list(out.rglob(".*"))
        small.remount("size=64m")
        check(photos, out, run_fleet(photos, out), undisturbed)


def test_a_folder_that_turns_read_only_is_reported(photos, undisturbed, tmp_path) -> None:
    with disk(tmp_path / "disk", "64m") as turned:
        out = turned.folder / "out"
        summary = run_fleet(photos, out, progress=lambda at: at.done >= 4 and turned.remount("ro"), delay=0.1)
        assert 0 < summary.missing < COUNT
        assert "Read-only" in summary.failures[0]
        turned.remount("rw")
        check(photos, out, run_fleet(photos, out), undisturbed)


def test_a_store_that_answers_badly_ends_up_with_the_same_objects(photos, undisturbed, store, tmp_path) -> None:
    summary = run_on_flaky_store(photos, store, tmp_path / "out", random.Random(5))
    check(photos, tmp_path / "out", summary, undisturbed)


# --- images that kill ---


def test_images_that_kill_at_decode_or_in_the_model_are_rows_and_can_be_tried_again(pids, tmp_path) -> None:
    photos, out = draw(tmp_path / "in", 12), tmp_path / "out"
    paint(photos[1], RED)
    paint(photos[6], BLUE)
    (pids / "poison").touch()
    summary = run_fleet(photos, out, pids)
    assert (summary.images, summary.missing, summary.statuses["ok"]) == (12, 0, 10)
    assert summary.codes == {"worker_died": 2}
    frame = table.read(out, ["image_id", "reason"]).set_index("image_id")
    assert frame.loc["001", "reason"].endswith("while decoding it")
    assert frame.loc["006", "reason"].endswith("in the model")
    before = {path: path.stat().st_mtime_ns for path in table.parts(out)}
    assert run_fleet(photos, out, pids).codes == {"worker_died": 2}
    assert {path: path.stat().st_mtime_ns for path in before} == before

    (pids / "poison").unlink()
    assert run_fleet(photos, out, pids, retry_errors=True).statuses["ok"] == 12
    changed = [path.name for path in before if path.stat().st_mtime_ns != before[path]]
    assert changed == ["part-00000.parquet", "part-00001.parquet"]
    run_fleet(photos, tmp_path / "fresh", pids)
    assert snapshot(out) == snapshot(tmp_path / "fresh")


def fake(kills: set[str], outside: list[int]) -> suspects.Dies:
    """Dies of some images, and of what happens outside at some calls."""
    calls = iter(range(1000))

    def dies(step: str, photos: list[Photo]) -> str:
        hit = next(calls) in outside or (step == "predict" and any(p.image_id in kills for p in photos))
        return "worker_died" if hit else ""

    return dies


def test_only_what_dies_every_time_is_condemned() -> None:
    photos = [Photo("x", f"{i}", "") for i in range(40)]
    assert suspects.isolate(photos, fake(set(), [])) == {}
    found = suspects.isolate(photos, fake({"7", "33"}, []))
    assert set(found) == {"7", "33"}
    assert found["7"][0] == "worker_died"
    assert "in the model" in found["7"][1]
    assert suspects.isolate(photos, fake(set(), [0, 1, 5, 6, 8])) == {}
    assert set(suspects.isolate(photos, fake({"7"}, [4, 9, 13]))) == {"7"}
