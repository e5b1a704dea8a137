"""The faults. Each is injected once and says what the checker may not expect of it."""

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, Protocol

from tests.torture.ground import Ground
from tests.torture.proxy import Proxy
from tests.torture.server_control import ServerControl

FROZEN_SECONDS = 8.0
CHILD_DEADLINE = 10.0
LOOK_PAUSE = 0.02
CRASH_DEADLINE = 60.0
LONGEST_OUTAGE = 7.0
MANNERS = ("delay", "stall", "strand", "refuse", "cut")
# The points, each with the latest pass at which the server may die there; queues are passed less often than the log.
LATEST_PASS = {"after-insert": 20, "after-ack": 20, "after-enqueue": 5, "before-trim": 5, "after-change": 4}
CRASH_VARIABLE = "CRASH_AT_MADANG"


class Scene(Protocol):
    """What a fault may lay hands on."""

    server: ServerControl
    proxy: Proxy
    random: Any
    ground: Ground

    def open_redis(self) -> Any: ...


class Fault(NamedTuple):
    """`hurts` names the processes that lose what they hold, and `halts` those that cannot be asked meanwhile."""

    name: str
    hurts: Sequence[str]
    strike: Callable[[Any], Awaitable[None]]
    halts: Sequence[str] = ()


async def kill_server(scene: Scene) -> None:
    scene.server.kill()
    await scene.server.start()


async def kill_child(scene: Scene, name: str) -> None:
    """Kill it and wait until the server has started another."""
    old = await _child(scene, name)
    scene.server.signal_child(name, signal.SIGKILL)
    async with asyncio.timeout(CHILD_DEADLINE):
        while await _child(scene, name) == old:
            await asyncio.sleep(LOOK_PAUSE)


async def kill_mongodb(scene: Scene) -> None:
    await kill_child(scene, "mongodb")


async def kill_redis(scene: Scene) -> None:
    await kill_child(scene, "redis")


async def kill_two(scene: Scene) -> None:
    """Any two of server, MongoDB and Redis."""
    first, second = scene.random.sample(["server", "mongodb", "redis"], 2)
    await _kill_together(scene, {first, second})


async def kill_all(scene: Scene) -> None:
    await _kill_together(scene, {"server", "mongodb", "redis"})


async def freeze_mongodb(scene: Scene) -> None:
    await _freeze(scene, "mongodb")


async def freeze_redis(scene: Scene) -> None:
    await _freeze(scene, "redis")


async def flush_redis(scene: Scene) -> None:
    async with scene.open_redis() as redis:
        await redis.flushall()


async def delay_people(scene: Scene) -> None:
    scene.proxy.delay = scene.random.uniform(0.05, 0.3)
    await asyncio.sleep(scene.random.uniform(0.5, 1.5))
    scene.proxy.heal()


async def stall_people(scene: Scene) -> None:
    scene.proxy.stall()
    await asyncio.sleep(scene.random.uniform(0.5, 4))
    scene.proxy.heal()


async def cut_people(scene: Scene) -> None:
    scene.proxy.cut()


def crash_at(point: str) -> Callable[[Scene], Awaitable[None]]:
    """Start the server so that it kills itself at a named point of its message path, and wait until it has."""

    async def strike(scene: Scene) -> None:
        scene.server.kill()
        environment = scene.server.process.environment
        environment[CRASH_VARIABLE] = f"{point}:{scene.random.randint(1, LATEST_PASS[point])}"
        try:
            await scene.server.start()
        except AssertionError as error:
            # It may come as far as its crash before anybody has seen that it listens.
            if "exit code -9" not in str(error):
                raise
        finally:
            del environment[CRASH_VARIABLE]
        if not await scene.server.wait_dead(CRASH_DEADLINE):
            raise AssertionError(f"the crash point {point} was not reached in {CRASH_DEADLINE} s")
        scene.server.kill()
        await scene.server.start()

    return strike


def on_the_way(store: str, manner: str) -> Callable[[Scene], Awaitable[None]]:
    """Trouble on the way to a store outside, for some seconds."""

    async def strike(scene: Scene) -> None:
        assert scene.ground.stores is not None
        way: Proxy = getattr(scene.ground.stores, store)
        if manner == "cut":
            way.cut()
            return
        if manner == "delay":
            way.delay = scene.random.uniform(0.01, 0.1)
        else:
            getattr(way, manner)()
        await asyncio.sleep(scene.random.uniform(1, LONGEST_OUTAGE))
        way.heal()

    return strike


async def move_clock(scene: Scene) -> None:
    """Between a minute and two hours forward, at once."""
    clock = scene.ground.clock
    assert clock is not None
    clock.write_text(f"+{int(clock.read_text()) + scene.random.randint(60, 7200)}")
    await asyncio.sleep(scene.random.uniform(1, 3))


async def fill_disk(scene: Scene) -> None:
    """Not a byte is left for some seconds."""
    disk = scene.ground.disk
    assert disk is not None
    ballast = disk / "ballast"
    try:
        with ballast.open("wb", buffering=0) as file:
            for size in (2**20, 4096, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(b"\0" * size)
        await asyncio.sleep(scene.random.uniform(2, 5))
    finally:
        ballast.unlink()


async def _kill_together(scene: Scene, names: set[str]) -> None:
    children = sorted(names - {"server"})
    old = {name: await _child(scene, name) for name in children}
    scene.random.shuffle(children)
    for name in children:
        scene.server.signal_child(name, signal.SIGKILL)
    if "server" in names:
        await kill_server(scene)
    async with asyncio.timeout(CHILD_DEADLINE):
        for name in children:
            while await _child(scene, name) == old[name]:
                await asyncio.sleep(LOOK_PAUSE)


async def _freeze(scene: Scene, name: str) -> None:
    scene.server.signal_child(name, signal.SIGSTOP)
    try:
        await asyncio.sleep(FROZEN_SECONDS)
    finally:
        scene.server.signal_child(name, signal.SIGCONT)


async def _child(scene: Scene, name: str) -> int:
    """The child's process id, once there is one."""
    async with asyncio.timeout(CHILD_DEADLINE):
        while True:
            try:
                return scene.server.child(name)
            except ProcessLookupError:
                await asyncio.sleep(LOOK_PAUSE)


KILLS = (
    Fault("kill-server", (), kill_server),
    Fault("kill-mongodb", (), kill_mongodb, halts=("mongodb",)),
    Fault("kill-redis", (), kill_redis, halts=("redis",)),
    Fault("kill-two", (), kill_two, halts=("mongodb", "redis")),
    Fault("kill-all", (), kill_all, halts=("mongodb", "redis")),
)
CRASHES = tuple(Fault(f"crash-{point}", (), crash_at(point)) for point in LATEST_PASS)
NETWORK = (
    Fault("delay-people", (), delay_people),
    Fault("stall-people", (), stall_people),
    Fault("cut-people", (), cut_people),
)
STORES = (
    Fault("freeze-mongodb", (), freeze_mongodb, halts=("mongodb",)),
    Fault("freeze-redis", (), freeze_redis, halts=("redis",)),
    Fault("flush-redis", ("redis",), flush_redis),
)
EMBEDDED = (*KILLS, *CRASHES, *NETWORK, *STORES)
OUTSIDE = (
    *(Fault(f"{manner}-mongodb-way", (), on_the_way("mongodb", manner), halts=("mongodb",)) for manner in MANNERS),
    *(Fault(f"{manner}-redis-way", (), on_the_way("redis", manner), halts=("redis",)) for manner in MANNERS),
)
# On stores that somebody has named: only the server and the network of the people are struck.
NAMED = tuple(fault._replace(name=f"named-{fault.name}") for fault in (KILLS[0], *CRASHES, *NETWORK))
CLOCK = (Fault("clock-forward", (), move_clock),)
DISK = (Fault("full-disk", ("redis",), fill_disk),)
ALL = (*EMBEDDED, *OUTSIDE, *NAMED, *CLOCK, *DISK)
