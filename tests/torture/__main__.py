"""`python -m tests.torture`: rounds of torture until every fault has struck often enough, or the time is over."""

import argparse
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import uvloop
import yaml

from tests.torture.campaign import Campaign
from tests.torture.faults import ALL
from tests.torture.planted import PLANTED
from tests.torture.round import CROWD


def main() -> int:
    """Run the rounds. Returns the exit code: 1 where a promise was broken."""
    options = _parser().parse_args()
    # However this ends, the servers end with it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    planted = PLANTED[options.planted] if options.planted else None
    program = [sys.executable, "-m", f"tests.torture.planted.{options.planted}"] if planted else []
    hits = read_plan(options.only or (planted.faults if planted else ""), options.hits or 1)
    faults = [fault for fault in ALL if hits[fault.name]]
    if not faults:
        print(f"no fault is called {options.only}; there are {', '.join(f.name for f in ALL)}", file=sys.stderr)
        return 2
    folder = Path(options.folder or tempfile.mkdtemp(prefix="torture-"))
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(10**6)
    print(f"seed {seed}, histories in {folder}", flush=True)
    settings = dict(read_setting(text) for text in options.set)
    campaign = Campaign(folder, seed, people=options.people, crowd=options.crowd, settings=settings, program=program)
    deadline = time.monotonic() + options.minutes * 60 if options.minutes else None
    uvloop.run(campaign.run(faults, hits if deadline is None else None, deadline))
    print(campaign.table())
    if planted:
        caught = planted.caught_by & campaign.rules.keys()
        print(f"planted {options.planted}: {f'caught by {sorted(caught)}' if caught else 'NOT CAUGHT'}")
        return 0 if caught else 1
    return 1 if campaign.violations else 0


def read_plan(only: str, hits: int) -> Counter[str]:
    """How often each fault strikes, from `kill=20,flush-redis`: beginnings of names, with a number or without."""
    plan: Counter[str] = Counter()
    for item in only.split(","):
        start, _, count = item.partition("=")
        plan.update({fault.name: int(count or hits) for fault in ALL if fault.name.startswith(start)})
    return plan


def read_setting(text: str) -> tuple[str, object]:
    """One `a.b=value`, whose value is YAML, as for the server's own `--set`."""
    key, _, value = text.partition("=")
    return key, yaml.safe_load(value)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--minutes", type=float, help="go on for so long, faults at random")
    parser.add_argument("--hits", type=int, help="strike with each fault so often (1)")
    parser.add_argument("--seed", type=int, help="repeat a run's choices")
    parser.add_argument("--only", metavar="NAMES", help="faults whose names begin so: kill-server=20,crash")
    parser.add_argument("--folder", help="where data and histories go (default: a new temporary folder)")
    parser.add_argument("--people", type=int, default=50, help="how many chat")
    parser.add_argument("--crowd", type=int, default=CROWD, help="how many more are in a group with all of them")
    parser.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], help="a setting of the server's")
    parser.add_argument("--planted", choices=sorted(PLANTED), help="run a server with this bug, which must be caught")
    return parser


if __name__ == "__main__":
    sys.exit(main())
