"""Facts about the machine and the versions, without which a figure says nothing."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = ("sluicegate", "numpy", "pyarrow", "river", "faust-streaming", "aiokafka", "pydantic", "orjson",
             "dpkt", "nfstream")  # fmt: skip


def machine_facts() -> dict[str, Any]:
    """Return processors, memory, kernel, versions and the load average now (1, 5 and 15 minutes)."""
    return {
        "cores": os.cpu_count(),
        "cores_allowed": len(os.sched_getaffinity(0)),
        "cpu": _first_field("/proc/cpuinfo", "model name"),
        "memory": _first_field("/proc/meminfo", "MemTotal"),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
        "load_average": load_average(),
    }


def load_average() -> list[float]:
    """Return the mean number of runnable processes over 1, 5 and 15 minutes."""
    return [round(value, 2) for value in os.getloadavg()]


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _first_field(path: str, name: str) -> str:
    """Return the value of the first ``name: value`` line; "unknown" where there is none."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return "unknown"
    found = (line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == name)
    return next(found, "unknown")
