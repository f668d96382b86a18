"""Clusters: configurations that Ray accepts, and labelling on a head that was started apart, by both ways."""

import importlib.util
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest
import ray
import torch
import yaml
from conftest import ROOT

from casfne import images, table
from casfne.cluster import connected
from casfne.errors import InputError
from casfne.model.cascade import Cascade, CascadeConfig
from casfne.model.checkpoints import save_weights

FILES = [ROOT / "cluster" / name for name in ("local.yaml", "aws.yaml")]
MADE_ELSEWHERE = {"~/.ray/auth_token"}  # by `ray get-auth-token`
BIN = Path(sys.executable).parent
COUNT = 5


# --- configurations ---


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_ray_accepts_the_configuration(file: Path) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    written = yaml.safe_load(file.read_text())
    config = prepare_config(written)
    validate_config(config)  # raises
    assert (
        config["cluster_name"] == written["cluster_name"] and config["head_node_type"] in config["available_node_types"]
    )


def test_machines_that_are_rented_name_their_image_and_come_with_a_gpu() -> None:
    """Ray's own choice of an image has a Python that is too old; the fleet takes the GPUs that are there."""
    kinds = yaml.safe_load((ROOT / "cluster" / "aws.yaml").read_text())["available_node_types"]
    assert all(kind["node_config"]["ImageId"].startswith("ami-") for kind in kinds.values())
    assert kinds["gpu"]["min_workers"] > 0


def test_ray_would_refuse_a_wrong_one() -> None:
    from jsonschema import ValidationError
    from ray.autoscaler._private.util import prepare_config, validate_config

    wrong = yaml.safe_load(FILES[1].read_text()) | {"max_wrokers": 3}
    with pytest.raises(ValidationError, match="max_wrokers"):
        validate_config(prepare_config(wrong))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_nodes_get_what_exists_and_nobody_else_gets_in(file: Path) -> None:
    config = yaml.safe_load(file.read_text())
    mounted = set(config["file_mounts"].values())
    assert mounted >= MADE_ELSEWHERE
    assert all((ROOT / path).exists() for path in mounted - MADE_ELSEWHERE)
    assert any("RAY_AUTH_MODE=token" in command for command in config["setup_commands"])
    (start,) = [c for c in config["head_start_ray_commands"] if "--head" in c]
    assert "--dashboard-host=127.0.0.1" in start


def test_the_readme_ships_the_weights_and_leaves_the_rest(tmp_path: Path) -> None:
    from ray._private.runtime_env.packaging import _get_excludes

    said = re.findall(r'\{"excludes".*?\}', (ROOT / "cluster" / "README.md").read_text())
    assert json.loads(said[0])["excludes"] == ["/.git/"]  # all else that stays behind is in .gitignore
    left_out = _get_excludes(tmp_path, json.loads(said[1])["excludes"])
    goes = [
        "casfne/cli.py",
        "weights/release.safetensors",
        "casfne/model/cascade.py",
        "data/model/model.safetensors",
        "requirements.lock",
    ]
    stays = ["data/samples/index.parquet", "data/corpora/celeba/000001.jpg", ".git/HEAD", ".venv/bin/python", "out/a"]
    for name in [*goes, *stays]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    # a folder that is left out is not looked into
    dropped = [n for n in [*goes, *stays] if any(left_out(tmp_path / p) for p in (n, *map(str, Path(n).parents[:-1])))]
    assert dropped == stays


# --- a head of our own ---


@dataclass(frozen=True)
class Head:
    address: str
    dashboard: str
    jobs: bool  # whether it takes jobs
    environment: dict[str, str]


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    """A Ray of two CPUs on private ports with a token of its own. Its processes are ended by their ids: `ray stop`
    would end every Ray here.
    """
    jobs = all(importlib.util.find_spec(name) for name in ("opencensus", "prometheus_client", "aiohttp_cors"))
    port, dashboard, agent, grpc, client = free_ports(5)
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")  # a socket's path may have 107 bytes
    token = Path(folder, "token")
    token.write_text(secrets.token_hex(32))
    token.chmod(0o600)
    theirs = {"RAY_ADDRESS", "RAY_AUTH_TOKEN"}  # of whoever runs the tests: neither cluster nor token is ours
    environment = {k: v for k, v in os.environ.items() if k not in theirs}
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "RAY_USAGE_STATS_ENABLED": "0"}
    environment |= {"PYTHONPATH": str(ROOT), "PATH": f"{BIN}:{os.environ['PATH']}"}
    command = [BIN / "ray", "start", "--head", "--block", "--node-ip-address=127.0.0.1", f"--port={port}"]
    command += [
        f"--temp-dir={folder}",
        "--num-cpus=2",
        f"--object-store-memory={1 << 28}",
    ]
    command += [f"--include-dashboard={str(jobs).lower()}", f"--dashboard-port={dashboard}"]
    command += [f"--dashboard-agent-listen-port={agent}", f"--dashboard-agent-grpc-port={grpc}"]
    command += [f"--ray-client-server-port={client}"] if jobs else []
    with open(f"{folder}/start.log", "wb") as log:
        process = psutil.Popen([str(part) for part in command], env=environment, stdout=log, stderr=log)
    try:
        wait_for(port, process, folder)
        if jobs:
            wait_for(dashboard, process, folder)
        yield Head(f"127.0.0.1:{port}", f"http://127.0.0.1:{dashboard}", jobs, environment)
    finally:
        end(process)
        shutil.rmtree(folder, ignore_errors=True)


def wait_for(port: int, process: psutil.Popen, folder: str) -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until and process.poll() is None:
        with socket.socket() as one:
            if one.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    pytest.fail(f"no Ray on port {port}: {Path(folder, 'start.log').read_text()[-2000:]}")


def end(process: psutil.Popen) -> None:
    """The process and all that it started, known before it goes."""
    ours = [*process.children(recursive=True), process] if process.is_running() else []
    if ours:
        process.send_signal(signal.SIGTERM)
    for one in psutil.wait_procs(ours, timeout=5)[1]:
        one.kill()
    psutil.wait_procs(ours, timeout=5)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory: the package, small weights that git ignores, and photographs with points beside them."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "casfne", folder / "casfne", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / ".gitignore").write_text("data/\n")
    torch.manual_seed(0)
    save_weights(folder / "data" / "tiny.safetensors", Cascade(CascadeConfig(4, 1)), {"confidence": {"one": 2.0}})
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    angle = np.linspace(0, np.pi, 68)
    points = np.stack([64 + 40 * np.cos(angle), 50 + 40 * np.sin(angle)], -1)
    for number in range(COUNT):
        images.write_image(folder / f"{number}.png", random.integers(0, 255, (128, 128, 3), dtype=np.uint8))
        lines = "\n".join(f"{x:.2f} {y:.2f}" for x, y in points)
        (folder / f"{number}.pts").write_text(f"version: 1\nn_points: 68\n{{\n{lines}\n}}\n")
    return folder


def label(photos: Path, out: Path, address: str) -> list[str]:
    options = ["--weights", "data/tiny.safetensors", "--corpus", "300w", "--device", "cpu", "--shard-rows", "2"]
    return ["python", "-m", "casfne.cli", "label", str(photos), "--out", str(out), *options, "--address", address]


def check(out: Path) -> None:
    frame = table.read(out)
    assert sorted(frame["image_id"]) == [str(n) for n in range(COUNT)] and (frame["status"] == "ok").all()
    assert len(table.parts(out)) == 3
    assert (out / "_summary.json").exists()


@pytest.mark.parametrize("address", ["127.0.0.1:{}", "ray://127.0.0.1:{}"])
def test_a_cluster_that_is_not_there_is_said_at_once(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)  # another test may hold one
    (port,) = free_ports(1)
    with pytest.raises(InputError, match=rf"no Ray cluster at .*:{port}: .*refused"), connected(address.format(port)):
        pass


def test_the_command_labels_on_a_cluster_by_its_address(head: Head, site: Path, photos: Path, tmp_path: Path) -> None:
    command = label(photos, tmp_path / "labels", head.address)
    done = subprocess.run(command, cwd=site, env=head.environment, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr
    check(tmp_path / "labels")


def test_a_job_labels_with_weights_that_git_ignores(head: Head, site: Path, photos: Path, tmp_path: Path) -> None:
    if not head.jobs:
        pytest.skip("this Ray takes no jobs: ray[default] is not installed")
    submit = [str(BIN / "ray"), "job", "submit", "--address", head.dashboard, "--working-dir", str(site)]
    environment = head.environment | {"RAY_RUNTIME_ENV_IGNORE_GITIGNORE": "1"}
    command = [*submit, "--", *label(photos, tmp_path / "labels", "auto")]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr
    check(tmp_path / "labels")
