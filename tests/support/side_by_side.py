"""Plays the situations of tests/side_by_side in a browser: serves the page, answers what they ask, causes faults."""

import asyncio
import re
import socket
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler, StaticFileHandler

from tests.support.browser import Browser
from tests.support.people import Person, Town, unique
from tests.support.rest import API
from tests.support.server_process import ROOT, ServerProcess
from tests.support.waiting import eventually
from tests.torture.proxy import Proxy, dial_tcp

DIST: Final = Path("node_modules/socket.io-client/dist")
PAUSE: Final = 0.05
DEADLINE: Final = 150.0
CLIENTS: Final = 2
SESSION: Final = re.compile(rb"sid=([\w-]+)")
UPGRADE: Final = b"Upgrade: websocket"
ACKNOWLEDGEMENT: Final = b"43/chat,"

Results = dict[str, dict[str, list[str]]]


class Portal(RequestHandler):
    """What a network without a login answers in the place of everybody else."""

    def get(self) -> None:
        self.set_header("Access-Control-Allow-Origin", "*")
        self.finish("<!doctype html><title>Please log in</title>")


class Meddler:
    """What a proxy does to the requests of clients; it knows HTTP a little."""

    def __init__(self) -> None:
        self.acknowledgements = 0
        self.drops_upgrades = self.swallows_upgrades = False
        self._known: set[bytes] = set()
        self._forgotten: set[bytes] = set()

    def forget(self) -> None:
        """From now on the server is asked for sessions that it does not know, in the place of those of today."""
        self._forgotten |= self._known

    def __call__(self, data: bytes) -> bytes:
        self.acknowledgements += data.count(ACKNOWLEDGEMENT)
        self._known |= set(SESSION.findall(data))
        for session in self._forgotten:
            data = data.replace(session, session[::-1])
        if UPGRADE in data and self.swallows_upgrades:
            return b""
        return data.replace(UPGRADE, b"X-Dropped: header") if self.drops_upgrades else data


class Lab:
    """One page on an origin of its own (its port is known before the server starts, for `cors.origins`)."""

    def __init__(self, official: Path) -> None:
        self._sockets = bind_sockets(0, "127.0.0.1", family=socket.AF_INET)
        self.origin = f"http://127.0.0.1:{self._sockets[0].getsockname()[1]}"
        self._official = official / DIST

    async def play(self, browser: Browser, server: ServerProcess, rounds: Iterable[Iterable[str]]) -> Results:
        """Play the situations of each round side by side, one round after the other."""
        static: list[Any] = [
            (r"/socket\.io/", Portal),
            (r"/(socket\.io\.js)", StaticFileHandler, {"path": str(self._official)}),
            (r"/js/(.*)", StaticFileHandler, {"path": str(ROOT / "web" / "js")}),
            (r"/side_by_side/(.*)", StaticFileHandler, {"path": str(ROOT / "tests" / "side_by_side")}),
        ]
        page = HTTPServer(Application(static))
        page.add_sockets(self._sockets)
        town = Town(server.url)
        results: Results = {}
        try:
            await asyncio.to_thread(browser.go, f"{self.origin}/side_by_side/index.html")
            await asyncio.to_thread(browser.wait_until, "return window.run !== undefined")
            for names in rounds:
                results |= await Round(browser, server, town, self.origin).play(list(names))
        finally:
            page.stop()
            await page.close_all_connections()
            await town.close()
        return results


class Round:
    """Situations that are played at the same time, each behind a proxy of its own."""

    def __init__(self, browser: Browser, server: ServerProcess, town: Town, portal: str) -> None:
        self._browser = browser
        self._server = server
        self._town = town
        self._portal = portal
        self._proxies: dict[str, Proxy] = {}
        self._meddlers: dict[str, Meddler] = {}
        self._people: dict[str, Person] = {}
        self._waiting: list[asyncio.Future[None]] = []

    async def play(self, names: list[str]) -> Results:
        port = urlsplit(self._server.url).port
        assert port is not None
        for name in names:
            proxy, meddler = Proxy(dial_tcp("127.0.0.1", port)), Meddler()
            proxy.rewrite = meddler
            await proxy.start()
            self._proxies[name], self._meddlers[name] = proxy, meddler
        try:
            return await asyncio.wait_for(self._play(), DEADLINE)
        finally:
            await asyncio.gather(*(proxy.close() for proxy in self._proxies.values()))

    async def _play(self) -> Results:
        bases = {name: f"http://127.0.0.1:{proxy.port}" for name, proxy in self._proxies.items()}
        pairs = [await self._pair() for _ in range(CLIENTS)]
        settings = {"portal": self._portal, "pairs": pairs, "bases": bases}
        await asyncio.to_thread(self._browser.run, "window.run(arguments[0])", settings)
        async with asyncio.TaskGroup() as tasks:
            while True:
                asked, results = await asyncio.to_thread(
                    self._browser.run, "return [window.takeRequests(), window.results]"
                )
                for request in asked:
                    tasks.create_task(self._answer(request["id"], request["what"], request["parameters"]))
                if results is not None:
                    return dict(results)
                await asyncio.sleep(PAUSE)

    async def _answer(self, request_id: int, what: str, parameters: dict[str, Any]) -> None:
        try:
            give, answer = "giveAnswer", await self._do(what, parameters)
        except AssertionError as error:
            give, answer = "giveFailure", str(error)
        await asyncio.to_thread(self._browser.run, f"window.{give}(...arguments)", request_id, answer)

    async def _do(self, what: str, asked: dict[str, Any]) -> Any:
        proxy, meddler = self._proxies[asked["situation"]], self._meddlers[asked["situation"]]
        faults: dict[str, Callable[[], None]] = {
            "refuse": proxy.refuse,
            "heal": proxy.heal,
            "cut": proxy.cut,
            "stall": proxy.stall,
            "forget": meddler.forget,
        }
        if what in faults:
            faults[what]()
        elif what == "dropUpgrades":
            meddler.drops_upgrades = True
        elif what == "swallowUpgrades":
            meddler.swallows_upgrades = True
        elif what == "acknowledged":
            await eventually(lambda: _now(meddler.acknowledgements >= CLIENTS), "both clients have acknowledged")
        elif what in ("stop", "kill", "start"):
            await self._together(getattr(self._server, what))
        elif what == "pair":
            return await self._pair()
        elif what == "room":
            person, other = self._people[asked["token"]], self._people[asked["otherToken"]]
            return {"roomId": await person.open_room(other, unique())}
        elif what == "send":
            for number in range(asked["count"]):
                await self._people[asked["otherToken"]].send(asked["roomId"], f"{number}")
        elif what == "logout":
            await self._people[asked["token"]].post(f"{API}/auth/logout", {})
        elif what == "isOnline":
            watcher, path = self._people[asked["otherToken"]], f"{API}/users/{self._people[asked['token']].id}"
            await eventually(lambda: _is_online(watcher, path, asked["value"]), "they are seen to come or go")
        else:
            raise AssertionError(what)
        return None

    async def _together(self, act: Callable[[], None]) -> None:
        """Act once when all situations of this round have come to it: they share the server."""
        done = asyncio.get_running_loop().create_future()
        self._waiting.append(done)
        if len(self._waiting) == len(self._proxies):
            waiting, self._waiting = self._waiting, []
            await asyncio.to_thread(act)
            for each in waiting:
                each.set_result(None)
        await done

    async def _pair(self) -> dict[str, str]:
        person, other, room_id = await self._town.pair()
        self._people |= {person.access_token: person, other.access_token: other}
        return {"token": person.access_token, "otherToken": other.access_token, "roomId": room_id}


async def _now(value: bool) -> bool:
    return value


async def _is_online(watcher: Person, path: str, value: bool) -> bool:
    return bool((await watcher.get(path)).body["isOnline"] is value)
