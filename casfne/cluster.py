"""Joining a Ray cluster, or starting one on this machine for as long as it is needed."""

import logging
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from casfne.errors import InputError

_LOCAL_STORE = 1 << 30  # bytes; backpressure keeps what is in flight below it
_HOST_PORT = re.compile(r"(ray://)?(?P<host>[^:/\[\]]+):(?P<port>\d+)")
_PATIENCE_S = 10
_IDLE_MS = 600_000  # Ray ends a worker after a second without work, and the next one spends seconds on imports


def _require_listener(address: str) -> None:
    """InputError where nobody listens at a host and port: Ray would try for ten minutes."""
    if not (found := _HOST_PORT.fullmatch(address)):
        return  # auto and local are Ray's to find
    try:
        socket.create_connection((found["host"], int(found["port"])), timeout=_PATIENCE_S).close()
    except (OSError, OverflowError) as error:
        raise InputError(f"no Ray cluster at {address}: {error}") from None


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Ray at ``address``; None: the cluster of RAY_ADDRESS, else one started here and ended afterwards.

    A Ray that this process already holds is used as it is. InputError where there is no such cluster.
    """
    import ray  # seconds to import

    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # its errors include warnings that cannot be heeded
    target = address or os.environ.get("RAY_ADDRESS") or "local"
    _require_listener(target)
    local: dict[str, Any] = {
        "object_store_memory": _LOCAL_STORE,
        "include_dashboard": False,
        "_system_config": {"idle_worker_killing_time_threshold_ms": _IDLE_MS},
    }
    try:
        ray.init(target, log_to_driver=False, logging_level=logging.ERROR, **(local if target == "local" else {}))
    except (ConnectionError, ValueError) as error:
        raise InputError(f"no Ray cluster at {target}: {error}") from None
    try:
        yield
    finally:
        ray.shutdown()
