"""The number of CPUs that this process may use: its affinity, and the quota of its container."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def allowed_cpus() -> int:
    """Return the CPUs of this process's affinity, or the whole CPUs of its control group's quota if that is less."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([affinity, *map(math.ceil, quotas(Path("/proc/self/cgroup"), CGROUPS))]))


def quotas(membership: Path, root: Path) -> Iterator[float]:
    """Yield the CPU quotas of a process's control group and of the groups around it, of version 1 or 2, in CPUs.

    Args:
        membership: lines ``number:controllers:path``, as in /proc/self/cgroup.
        root: where the groups are mounted.
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "cpu", "cpu,cpuacct", "cpuacct,cpu"):
            continue
        top = root / controllers
        inner = top / path.lstrip("/")
        for folder in (inner, *inner.parents):
            yield from _quota(folder)
            if folder == top:
                break


def _quota(folder: Path) -> Iterator[float]:
    try:
        if (folder / "cpu.max").exists():
            limit, period = (folder / "cpu.max").read_text().split()
        else:
            limit, period = ((folder / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
        if limit not in ("max", "-1"):
            yield int(limit) / int(period)
    except (OSError, ValueError):
        return
