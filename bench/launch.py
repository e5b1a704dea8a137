"""Runs the server as it is, with what only measuring needs: `python -m bench.launch [--no-store] … -- [options]`.

`--no-store` takes messages as stored without writing them, `--no-metrics` counts nothing. `--lag FILE` writes how late
the event loop was, and `--profile FILE` a profile of the server, both at its end.
"""

import argparse
import asyncio
import cProfile
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

import main as product
from bench.figures import latency_of
from server.context import Context
from server.metrics import Metrics
from server.models import Message
from server.storage.mongo.messages import MessageStore

LAG_STEP = 0.005


def leave_out_store() -> None:
    """Every batch counts as stored at once."""

    async def take(_store: MessageStore, messages: Sequence[Message]) -> int:
        return len(messages)

    MessageStore.insert = take  # type: ignore[method-assign]


def leave_out_metrics() -> None:
    """Nothing is counted, and no call of a store is timed."""

    def note_nothing(_metrics: Metrics, *_values: object) -> None:
        """Counts nothing."""

    Metrics.note_operation = Metrics.note_batch = note_nothing  # type: ignore[method-assign]
    Metrics.store_calls = note_nothing  # type: ignore[assignment, method-assign]


def watch_lag(late: list[float]) -> None:
    """Note by how many seconds a timer of the server's loop comes late, many times a second."""
    open_context = Context.open

    async def open_watched(context: Context) -> None:
        await open_context(context)
        loop = asyncio.get_running_loop()

        def tick(due: float) -> None:
            # The loop's own clock counts whole milliseconds.
            now = time.perf_counter()
            late.append(max(0.0, now - due))
            loop.call_later(LAG_STEP, tick, now + LAG_STEP)

        tick(time.perf_counter())

    Context.open = open_watched  # type: ignore[method-assign]


def run() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--no-store", action="store_true")
    parser.add_argument("--no-metrics", action="store_true")
    parser.add_argument("--lag", type=Path)
    parser.add_argument("--profile", type=Path)
    parser.add_argument("server_options", nargs="*")
    options = parser.parse_args()
    late: list[float] = []
    if options.no_store:
        leave_out_store()
    if options.no_metrics:
        leave_out_metrics()
    if options.lag:
        watch_lag(late)
    profile = cProfile.Profile() if options.profile else None
    try:
        return (
            profile.runcall(product.main, options.server_options) if profile else product.main(options.server_options)
        )
    finally:
        if profile:
            profile.dump_stats(options.profile)
        if options.lag:
            options.lag.write_bytes(msgspec.json.encode(latency_of(late)))


if __name__ == "__main__":
    sys.exit(run())
