"""Numbers of a measurement: latencies, medians, CPU time and memory of processes."""

import os
import statistics
from collections.abc import Sequence
from pathlib import Path

import msgspec


class Latency(msgspec.Struct):
    """Milliseconds."""

    p50: float
    p99: float
    worst: float


def latency_of(seconds: Sequence[float]) -> Latency:
    """Zeros where nothing was measured."""
    if not seconds:
        return Latency(0.0, 0.0, 0.0)
    ordered = sorted(seconds)
    at = [ordered[min(len(ordered) - 1, int(len(ordered) * part))] * 1000 for part in (0.5, 0.99, 1.0)]
    return Latency(*(round(value, 2) for value in at))


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def read_cpu(pid: int) -> float:
    """Seconds of CPU that a process has used, all its threads together."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def read_memory(pid: int) -> int:
    """Bytes of memory that a process holds for itself: resident, without files that are mapped."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise ValueError("the system does not tell RssAnon")


def children_of(pid: int) -> set[int]:
    """The direct children of a process."""
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").iterdir():
        found.update(map(int, (task / "children").read_text().split()))
    return found
