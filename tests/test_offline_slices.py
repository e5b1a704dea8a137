"""Offline queues of more than one piece: what is handed over, and when the next piece goes out."""

import asyncio

from tests.support.people import Town


async def test_long_messages_come_in_pieces_that_every_client_takes(town: Town) -> None:
    """The clients of python-socketio refuse a frame of more than 4 MiB; a batch of long messages is far above that."""
    one, other, room_id = await town.pair()
    sender, count, have = await one.connect(), 160, 0
    payload = {"roomId": room_id, "content": "한" * 10_000}
    answers = await asyncio.gather(*(sender.call("message:send", payload) for _ in range(count)))
    assert all(answer["ok"] for answer in answers)
    device = await other.connect()
    waited: list[int] = []
    while len(waited) < count:
        waited += [message["seq"] for message in await device.next("messages:offline")]
    assert waited == list(range(1, count + 1))
    while have < count:
        room = (await device.call("sync", {"rooms": {room_id: have}}))["rooms"][0]
        seqs = [message["seq"] for message in room["messages"]]
        assert seqs and seqs == list(range(have + 1, have + 1 + len(seqs)))
        have = seqs[-1]
        assert room["hasMore"] == (have < count)
    assert not device.is_gone
