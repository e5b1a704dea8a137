"""The page's own Socket.IO client and npm's, side by side in one browser, in the same situations."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import NO_LIMITS
from tests.support.browser import Browser
from tests.support.server_process import ServerProcess
from tests.support.side_by_side import Lab, Results
from tests.torture.server_control import free_port

# Half-open connections are noticed after fifteen seconds; a slow machine answers sooner.
SETTINGS = {**NO_LIMITS, "socket.ping_interval": "1s", "socket.ping_timeout": "14s", "presence.grace": "200ms"}
ANSWERED = "answer ok"
CUT = "disconnect (transport close)"
POLL_FAILED = "disconnect (transport error)"
SILENT = "disconnect (ping timeout)"
ENDED = "disconnect (io server disconnect)"
LEFT = "disconnect (io client disconnect)"
STAYS_AWAY = "active false"
REFUSED = ["connect_error UNAUTHORIZED", STAYS_AWAY]


def back_after(*lines: str) -> list[str]:
    return ["connect", *lines, "connect", ANSWERED]


class Difference(NamedTuple):
    """Where the page's client is meant to do other than npm's."""

    ours: list[str]
    official: list[str]
    why: str


# Each situation stands in tests/side_by_side/situations.js under the same name. All of a round are played at once.
STEADY: dict[str, list[str] | Difference] = {
    "connects, and is answered": ["connect", ANSWERED],
    "polls, and is answered": ["connect", ANSWERED],
    "answers find their calls": ["connect", "found 30"],
    "an unknown event": ["connect", "NOT_FOUND"],
    "an answer that is late": ["connect", "TIMEOUT", ANSWERED],
    "events come in order": ["connect", "heard", "in order true"],
    "the server's events are acknowledged": ["connect", "batch of 3"],
    "a bad token": REFUSED,
    "no token, by polling": REFUSED,
    "another token at each attempt": ["connect", CUT, "connect_error UNAUTHORIZED", "tokens left 0"],
    "the server disconnects": ["connect", ENDED, STAYS_AWAY],
    "the server disconnects who polls": ["connect", ENDED, STAYS_AWAY],
    "the client disconnects": ["connect", LEFT, STAYS_AWAY],
    "the client that polls disconnects": ["connect", LEFT, STAYS_AWAY],
    "disconnects while it connects, and connects": ["connect", ANSWERED],
    "a WebSocket that is cut": back_after(CUT),
    "several cuts, one after the other": [*["connect", CUT] * 4, "connect", "heard one", "heard two"],
    "a network that is gone for a while": back_after(CUT),
    "a network that is gone for a while, polling": back_after(POLL_FAILED),
    "a connection that is only half open": back_after(SILENT),
    "a connection that is only half open, polling": back_after(SILENT),
    "a session that the server does not know": back_after(POLL_FAILED),
    "a call whose answer the cut took": back_after(CUT, "OFFLINE"),
    "pauses grow": ["pauses grow"],
    "something else answers": ["connect_error", "connect_error", "active true"],
    "strange characters": ["connect", "the same"],
    "strange characters, polling": ["connect", "the same"],
    "large messages": ["connect", "sent 20", "read 20"],
    "large messages, polling": ["connect", "sent 20", "read 20"],
    "bytes instead of text": ["connect", "VALIDATION_FAILED", ANSWERED],
    "more than the server takes": back_after("exception PAYLOAD_TOO_LARGE", CUT),
    "a namespace that is not there": ["refused", STAYS_AWAY],
    "WebSockets are refused": ["connect", ANSWERED],
    "WebSockets are never answered": Difference(
        ["connect"], ["never connects"], "silence is no reason for npm's client to poll"
    ),
    "a call while disconnected": Difference(
        ["connect", CUT, "answer OFFLINE", "connect"],
        ["connect", CUT, "connect", ANSWERED],
        "npm's client keeps calls and sends them later; the page has an outbox, which survives a reload",
    ),
}
STOPPED: dict[str, list[str] | Difference] = {
    "the server stops and comes back": ["connect", "exception UNAVAILABLE", CUT, "back"],
    "the server stops and comes back, polling": ["connect", "exception UNAVAILABLE", POLL_FAILED, "back"],
}
KILLED: dict[str, list[str] | Difference] = {
    "the server is killed and comes back": back_after(CUT),
    "the server is killed and comes back, polling": back_after(POLL_FAILED),
}
SITUATIONS = STEADY | STOPPED | KILLED


@pytest.fixture(scope="module")
def seen(
    two_browsers: tuple[Browser, Browser], node_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Results]:
    """What both clients saw of every situation."""
    lab = Lab(node_folder)
    # Its port stays the same when it comes back.
    settings = {**SETTINGS, "server.port": free_port(), "cors.origins": [lab.origin]}
    server = ServerProcess(tmp_path_factory.mktemp("side_by_side"), settings)
    two_browsers[0].begin_anew()
    try:
        server.start()
        with ThreadPoolExecutor(1) as thread:
            playing = thread.submit(asyncio.run, lab.play(two_browsers[0], server, (STEADY, STOPPED, KILLED)))
            yield playing.result()
        server.stop()
    finally:
        server.kill()


@pytest.mark.parametrize("situation", SITUATIONS)
def test_both_clients_see_the_same(seen: Results, situation: str) -> None:
    expected = SITUATIONS[situation]
    ours, official, _why = expected if isinstance(expected, Difference) else (expected, expected, "")
    assert seen[situation] == {"ours": ours, "official": official}


def test_every_situation_is_played(seen: Results) -> None:
    assert seen.keys() == SITUATIONS.keys()
