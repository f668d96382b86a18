"""Joining a Ray cluster, or starting one on this machine for as long as it is needed."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from casfne.errors import InputError

_LOCAL_STORE = 1 << 30  # bytes; backpressure keeps what is in flight below it
_IDLE_MS = 600_000  # Ray ends a worker after a second without work, and the next one spends seconds on imports


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
