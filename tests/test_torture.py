"""The short torture: a few hits of every kind that the long runs have, with the same people, faults and judge."""

import asyncio
from collections import Counter
from pathlib import Path

from tests.torture.campaign import Campaign
from tests.torture.faults import CRASHES, KILLS, NETWORK, OUTSIDE

PEOPLE = 16
SEED = 1
OUTSIDE_KINDS = ("stall-mongodb-way", "refuse-redis-way")


def run(folder: Path, faults: Counter[str]) -> Campaign:
    """Strike as planned; nothing promised may be broken."""
    campaign = Campaign(folder, SEED, people=PEOPLE, quiet=True)
    known = [fault for fault in (*KILLS, *CRASHES, *NETWORK, *OUTSIDE) if faults[fault.name]]
    asyncio.run(campaign.run(known, faults))
    assert not campaign.violations, "\n".join(campaign.violations)
    assert campaign.struck == faults
    assert campaign.records["ack"] > 0
    assert campaign.records["new"] > 0
    return campaign


def test_kills_of_every_kind(tmp_path: Path) -> None:
    run(tmp_path, Counter({fault.name: 3 for fault in KILLS}))


def test_crash_points_and_the_network(tmp_path: Path) -> None:
    run(tmp_path, Counter({fault.name: 1 for fault in (*CRASHES, *NETWORK)}))


def test_trouble_on_the_way_to_the_stores(tmp_path: Path) -> None:
    run(tmp_path, Counter(dict.fromkeys(OUTSIDE_KINDS, 1)))
