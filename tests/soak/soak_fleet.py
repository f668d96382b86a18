"""The kill tests for longer: 20 rounds at random moments, seeds printed. By `make soak`; `SOAK_SEED=n` for one round.

pytest -n0 -s tests/soak/soak_fleet.py
"""

import contextlib
import os
import random
import signal
import time
from pathlib import Path

import pytest
from chaos import (
    check,
    disk,
    draw,
    killing,
    pids,
    ray_here,
    run_fleet,
    run_on_dying_cluster,
    run_on_flaky_store,
    start_driver,
    store,
    undisturbed,
    wait_until,
)

from casfne import table
from casfne.corpora.record import Photo
from casfne.errors import InputError

COUNT = 96
SEEDS = [int(os.environ["SOAK_SEED"])] if "SOAK_SEED" in os.environ else list(range(20))

pytestmark = [pytest.mark.usefixtures("ray_here"), pytest.mark.parametrize("seed", SEEDS)]


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> list[Photo]:
    return draw(tmp_path_factory.mktemp("photos"), COUNT)


@pytest.fixture
def dice(seed: int) -> random.Random:
    print(f"\nseed {seed}")
    return random.Random(seed)


@pytest.mark.parametrize("kind", ["model", "decode"])
def test_workers(kind, photos, undisturbed, pids, dice, tmp_path) -> None:
    with killing(pids, kind, dice, most=4) as killed:
        summary = run_fleet(photos, tmp_path / "out", pids, delay=0.05)
    print(f"{len(killed)} killed")
    check(photos, tmp_path / "out", summary, undisturbed)


def test_drivers(photos, undisturbed, pids, dice, tmp_path) -> None:
    out, folder = tmp_path / "out", Path(photos[0].path).parent
    for _ in range(2):
        driver = start_driver(folder, out, pids, COUNT, 0.05)
        there = len(table.parts(out))
        wait_until(lambda there=there, driver=driver: len(table.parts(out)) > there or driver.poll() is not None)
        time.sleep(dice.uniform(0, 2))
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        time.sleep(1)
        print(f"{len(table.parts(out))} shards there")
    check(photos, out, run_fleet(photos, out), undisturbed)


def test_machines(photos, undisturbed, dice, tmp_path, seed) -> None:
    out = tmp_path / "out"
    assert run_on_dying_cluster(Path(photos[0].path).parent, out, COUNT, 0.05, seed) == 0
    check(photos, out, run_fleet(photos, out), undisturbed)


def test_disks(photos, undisturbed, dice, tmp_path) -> None:
    size = sum(map(len, undisturbed.values()))
    with disk(tmp_path / "disk", f"{int(size * dice.uniform(0.2, 0.8)) // 1024}k") as small:
        out = small.folder / "out"
        assert run_fleet(photos, out).missing
        small.remount("size=64m")
        stop = dice.randrange(COUNT)
        with contextlib.suppress(InputError):  # where all shards were there already, but no index or marker
            run_fleet(photos, out, progress=lambda at: at.done >= stop and small.remount("ro"))
        assert not (out / "_summary.json").exists()
        small.remount("rw")
        check(photos, out, run_fleet(photos, out), undisturbed)


def test_stores(photos, undisturbed, store, dice, tmp_path) -> None:
    check(photos, tmp_path / "out", run_on_flaky_store(photos, store, tmp_path / "out", dice), undisturbed)
