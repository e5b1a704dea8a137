"""Long-polling: limits of one request, and the order of its events."""

import json

import pytest

from tests.support.people import Town
from tests.support.poller import Poller

MOST_PACKETS = 2000
MOST_ENTERING = 16


async def still_works(poller: Poller) -> bool:
    """Whether the session goes on after a request that was refused."""
    await poller.say('42/chat,7["presence:get",{"userIds":[]}]')
    while not any(packet.startswith("43/chat,7") for packet in await poller.poll()):
        pass
    return True


async def test_hundreds_of_sends_in_one_body_keep_their_order(town: Town) -> None:
    person, friend, room_id = await town.pair()
    poller, ear, count = Poller(town), await friend.connect(), 500
    await poller.begin(person)
    await poller.say(
        *(
            f"42/chat,{number}" + json.dumps(["message:send", {"roomId": room_id, "content": f"{number}"}])
            for number in range(count)
        )
    )
    heard = [await ear.next("message:new") for _ in range(count)]
    assert [(message["seq"], message["content"]) for message in heard] == [(n + 1, f"{n}") for n in range(count)]
    acks: list[str] = []
    while len(acks) < count:
        acks += [packet for packet in await poller.poll() if packet.startswith("43/chat,")]
    assert [ack.split("[", 1)[0] for ack in acks] == [f"43/chat,{number}" for number in range(count)]


@pytest.mark.parametrize(
    "packets",
    [["4x"] * (MOST_PACKETS + 1), ["5"], ["3", "5"], ["2"], ["2probe"], ["40/nowhere,"] * (MOST_ENTERING + 1)],
    ids=["too many", "upgrade", "upgrade after others", "ping", "probe", "too many entries"],
)
async def test_a_body_that_no_client_sends_is_refused_and_the_session_goes_on(town: Town, packets: list[str]) -> None:
    poller = Poller(town)
    await poller.begin(await town.person())
    assert await poller.try_saying(*packets) == 400
    assert await still_works(poller)


async def test_a_body_of_as_many_packets_as_are_allowed_is_taken(town: Town) -> None:
    poller = Poller(town)
    await poller.begin(await town.person())
    await poller.say(*["4x"] * MOST_PACKETS)
    await poller.say(*["40/nowhere,"] * MOST_ENTERING)
    assert await still_works(poller)


@pytest.mark.parametrize(
    "packet", ["b\xe9", "bA", "4" + "[" * 50_000, "4 " + '{"a":' * 15_000, "3[1]"], ids=lambda text: text[:4]
)
async def test_a_packet_that_the_library_cannot_read_is_refused(town: Town, packet: str) -> None:
    poller = Poller(town)
    await poller.begin(await town.person())
    assert await poller.try_saying(packet, '42/chat,1["presence:get",{"userIds":[]}]') == 400
    await poller.say('42/chat,2["presence:get",{"userIds":[]}]')
    assert any(told.startswith("43/chat,2") for told in await poller.poll()), "the session goes on"
