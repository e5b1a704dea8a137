"""A campaign: rounds with a fresh town each, on one server and data folder, until the plan is done."""

import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.support.people import Person, Town
from tests.support.server_process import ServerProcess
from tests.torture.checker import judge
from tests.torture.faults import Fault
from tests.torture.ground import Ground
from tests.torture.outcasts import SETTINGS as OUTCASTS
from tests.torture.places import PLACES
from tests.torture.round import CROWD, PEOPLE, Round
from tests.torture.server_control import ServerControl

FAULTS_PER_ROUND = 25
LOAD_SECONDS = (0.3, 0.9)
# Bounds what a person may do in a round; a quick ping lets silent devices prove themselves soon.
SETTINGS: dict[str, object] = {
    "limits.enabled": False,
    "auth.access_ttl": "30d",
    "socket.ping_interval": "1s",
    "presence.grace": "500ms",
    **OUTCASTS,
}


class Campaign:
    """Counts what struck and what broke. `violations` holds one line each, with the round's history file."""

    def __init__(
        self,
        folder: Path,
        seed: int,
        *,
        people: int = PEOPLE,
        crowd: int = CROWD,
        settings: dict[str, object] | None = None,
        program: Sequence[str] = (),
        quiet: bool = False,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.seed = seed
        self.violations: list[str] = []
        self.rules: Counter[str] = Counter()
        self.skipped: dict[str, str] = {}
        self.struck: Counter[str] = Counter()
        self.records: Counter[str] = Counter()
        self._people = people
        self._crowd = crowd
        self._rounds = 0
        self._quiet = quiet
        self._random = random.Random(seed)
        self._settings = {**SETTINGS, **(settings or {})}
        self._program = program

    async def run(self, faults: Sequence[Fault], plan: Counter[str] | None, deadline: float | None = None) -> None:
        """Strike until `plan` (hits for each name) is done, or until `deadline` where there is none."""
        chosen = [(place, [fault for fault in faults if fault in place.faults]) for place in PLACES]
        chosen = [(place, here) for place, here in chosen if here]
        began, share = time.monotonic(), 0
        for place, here in chosen:
            share += len(here)
            why_not = place.why_not()
            if why_not:
                self.skipped.update({fault.name: why_not for fault in here})
                continue
            end = None if deadline is None else began + (deadline - began) * share / len(faults)
            async with place.open(self.folder) as ground:
                await self._run_on(ground, here, plan, end)

    async def _run_on(
        self, ground: Ground, faults: Sequence[Fault], plan: Counter[str] | None, deadline: float | None
    ) -> None:
        """All rounds on one server."""
        left = Counter(plan) if plan is not None else None
        process = ServerProcess(ground.folder, self._settings | ground.settings, program=self._program)
        process.environment |= ground.environment
        if ground.data_dir is not None:
            process.data_dir = ground.data_dir
            process.settings["data_dir"] = str(ground.data_dir)
        server = ServerControl(process)
        crowd: list[Person] = []
        try:
            while chosen := self._choose(faults, left):
                self._rounds += 1
                # Also after a round that did not end well.
                server.kill()
                await server.start()
                await server.wait_well()
                crowd = crowd or await _register(server, self._crowd)
                await self._round(server, ground, self.seed * 1000 + self._rounds, chosen, crowd)
                if deadline is not None and time.monotonic() > deadline:
                    return
        finally:
            server.end_all()

    def _choose(self, faults: Sequence[Fault], left: Counter[str] | None) -> list[Fault]:
        if left is None:
            return self._random.choices(faults, k=FAULTS_PER_ROUND)
        waiting = [fault for fault in faults for _ in range(left[fault.name])]
        self._random.shuffle(waiting)
        chosen = waiting[:FAULTS_PER_ROUND]
        left.subtract(fault.name for fault in chosen)
        return chosen

    async def _round(
        self, server: ServerControl, ground: Ground, seed: int, faults: Sequence[Fault], crowd: Sequence[Person]
    ) -> None:
        began = time.monotonic()
        town = Round(server, self.folder, seed, ground=ground, people=self._people, crowd=crowd)
        trouble = ""
        try:
            await town.open()
            for fault in faults:
                await asyncio.sleep(town.random.uniform(*LOAD_SECONDS))
                await town.strike(fault)
                self.struck[fault.name] += 1
            await asyncio.sleep(town.random.uniform(*LOAD_SECONDS))
            await town.close()
        except Exception as error:
            trouble = f"the round did not end well: {error!r}\n{server.process.log_tail()}"
            self.rules["round-ends"] += 1
        finally:
            town.abandon()
            await town.proxy.close()
        if trouble:
            # Without the store's side there is nothing to judge by.
            self.violations.append(trouble)
            self._say(trouble)
            return
        judgement = judge(town.history.path)
        self.records.update(judgement.counts)
        self.rules.update(judgement.rules)
        self.violations += [f"{town.history.path.name} {violation}" for violation in judgement.violations]
        counts = judgement.counts
        self._say(
            f"round {seed}: {len(faults)} faults in {time.monotonic() - began:.0f} s, {counts['send']} sends, "
            f"{counts['ack']} acks, {counts['new']} heard live, {counts['owed']} owed to the absent, "
            f"{counts['listened']} to listeners, {counts['moved']} guests moved, {counts['silenced']} sent while out, "
            f"{len(judgement.violations)} violations"
        )
        if judgement.violations:
            self._say(str(judgement))

    def table(self) -> str:
        """What struck, what was judged and what broke, for people."""
        lines = [f"{name:18} {count:6}" for name, count in sorted(self.struck.items())]
        lines += [f"{name:18} SKIPPED: {why_not}" for name, why_not in sorted(self.skipped.items())]
        heard = ["send", "ack", "unknown", "refused", "new", "queued", "synced", "stored", "owed", "listened", "moved"]
        heard += ["shut", "silenced"]
        lines.append(", ".join(f"{self.records[kind]} {kind}" for kind in heard))
        lines.append(f"violations: {len(self.violations)} {dict(self.rules) if self.rules else ''}")
        return "\n".join(lines)

    def _say(self, text: str) -> None:
        if not self._quiet:
            print(text, file=sys.stdout, flush=True)


async def _register(server: ServerControl, count: int) -> list[Person]:
    """People of one server's whole campaign who have no devices."""
    town = Town(server.process.url)
    try:
        return [person for begin in range(0, count, 10) for person in await town.people(min(10, count - begin))]
    finally:
        await town.close()
