"""`sync`: what a client missed, by the last seq that it has, with its limits."""

import asyncio
import json
from typing import Any

from tests.conftest import StartServer
from tests.support.device import Device
from tests.support.people import Town, unique
from tests.support.shapes import check_message, check_refused

PER_ROOM = 200
IN_ALL = 2000


async def synced(device: Device, rooms: dict[str, int]) -> dict[str, dict[str, Any]]:
    """The answer by room id."""
    ack = await device.call("sync", {"rooms": rooms})
    assert ack["ok"] is True, ack
    answer = {room["roomId"]: room for room in ack["rooms"]}
    assert len(answer) == len(ack["rooms"]), "a room came twice"
    for room in ack["rooms"]:
        assert room.keys() >= {"roomId", "messages", "lastSeq", "unreadCount", "hasMore"}
        for message in room["messages"]:
            check_message(message)
    return answer


def seqs(room: dict[str, Any]) -> list[int]:
    return [message["seq"] for message in room["messages"]]


async def fill(device: Device, room_id: str, count: int) -> None:
    acks = [device.call("message:send", {"roomId": room_id, "content": f"{number}"}) for number in range(count)]
    assert all(ack["ok"] for ack in await asyncio.gather(*acks))


async def test_what_was_missed_comes_ascending_and_other_rooms_by_their_marks(town: Town) -> None:
    one, other, room_id = await town.pair()
    unnamed = await one.open_room(other, unique("b"))
    for number in range(5):
        await one.send(room_id, f"{number}")
    await one.send(unnamed)
    device = await other.connect()
    answer = await synced(device, {room_id: 2})
    assert answer.keys() == {room_id, unnamed}
    assert seqs(answer[room_id]) == [3, 4, 5]
    assert (answer[room_id]["lastSeq"], answer[room_id]["unreadCount"], answer[room_id]["hasMore"]) == (5, 5, False)
    assert (answer[unnamed]["messages"], answer[unnamed]["lastSeq"], answer[unnamed]["unreadCount"]) == ([], 1, 1)


async def test_nothing_missed(town: Town) -> None:
    one, other, room_id = await town.pair()
    await one.send(room_id)
    device = await other.connect()
    for have in (1, 999):
        answer = await synced(device, {room_id: have})
        assert (answer[room_id]["messages"], answer[room_id]["hasMore"], answer[room_id]["lastSeq"]) == ([], False, 1)
    assert (await synced(device, {}))[room_id]["messages"] == []
    newcomer = await (await town.person()).connect()
    assert await synced(newcomer, {}) == {}


async def test_a_room_gives_two_hundred_at_a_time(town: Town) -> None:
    one, other, room_id = await town.pair()
    await fill(await one.connect(), room_id, PER_ROOM + 30)
    device = await other.connect()
    first = (await synced(device, {room_id: 0}))[room_id]
    assert (seqs(first), first["hasMore"]) == (list(range(1, PER_ROOM + 1)), True)
    rest = (await synced(device, {room_id: PER_ROOM}))[room_id]
    assert (seqs(rest), rest["hasMore"]) == (list(range(PER_ROOM + 1, PER_ROOM + 31)), False)


async def test_all_rooms_together_give_two_thousand_and_asking_again_gives_the_rest(town: Town) -> None:
    one, other, _ = await town.pair()
    rooms = await asyncio.gather(*(one.open_room(other, unique("b")) for _ in range(11)))
    sender = await one.connect()
    for room_id in rooms:
        await fill(sender, room_id, PER_ROOM)
    device = await other.connect()
    have = dict.fromkeys(rooms, 0)
    answer = await synced(device, have)
    assert sum(len(answer[room_id]["messages"]) for room_id in rooms) == IN_ALL
    for room_id in rooms:
        got = seqs(answer[room_id])
        assert got == list(range(1, len(got) + 1))
        assert answer[room_id]["hasMore"] == (len(got) < PER_ROOM)
        have[room_id] = len(got)
    answer = await synced(device, have)
    for room_id in rooms:
        assert seqs(answer[room_id]) == list(range(have[room_id] + 1, PER_ROOM + 1))
        assert answer[room_id]["hasMore"] is False


async def test_a_room_that_is_not_mine_fails_like_one_that_does_not_exist(town: Town) -> None:
    _one, _other, room_id = await town.pair()
    stranger = await (await town.person()).connect()
    unknown = "0" * len(room_id)
    for name in (room_id, unknown):
        check_refused(await stranger.call("sync", {"rooms": {name: 0}}), "NOT_FOUND", f"rooms.{name}")


async def test_a_client_catches_up_after_it_was_away(town: Town) -> None:
    one, other, room_id = await town.pair()
    sender, device = await one.connect(), await other.connect()
    await fill(sender, room_id, 3)
    last = [await device.next("message:new") for _ in range(3)][-1]
    await device.vanish()
    await fill(sender, room_id, 4)
    back = await other.connect()
    assert seqs((await synced(back, {room_id: last["seq"]}))[room_id]) == [4, 5, 6, 7]


async def test_a_wrong_place_is_refused_under_its_room(town: Town) -> None:
    one, _other, room_id = await town.pair()
    device = await one.connect()
    for wrong in ("1", -1, 1.5, None, 2**63, [1]):
        ack = await device.call("sync", {"rooms": {"x": 0, room_id: wrong}})
        check_refused(ack, "VALIDATION_FAILED", f"rooms.{room_id}")
    for wrong, field in (({"$gt": 0}, "seq"), ({"seq": 0}, "rev"), ({"seq": 0, "rev": -1}, "rev")):
        ack = await device.call("sync", {"rooms": {"x": 0, room_id: wrong}})
        check_refused(ack, "VALIDATION_FAILED", f"rooms.{room_id}.{field}")
    long = "x" * 500
    check_refused(await device.call("sync", {"rooms": {long: 0}}), "VALIDATION_FAILED", f"rooms.{long}")
    check_refused(await device.call("sync", {"rooms": [room_id]}), "VALIDATION_FAILED", "rooms")
    many = {str(number): 0 for number in range(5_001)}
    check_refused(await device.call("sync", {"rooms": many}), "VALIDATION_FAILED", "rooms")


async def test_a_message_that_is_larger_than_an_answer_comes_alone(start_server: StartServer, town_at: Any) -> None:
    """Asking again ends, whatever `messages.max_length` allows."""
    longest = 600_000
    town: Town = town_at(start_server({"messages.max_length": longest, "server.max_payload": "8MiB"}))
    one, other, room_id = await town.pair()
    second = await one.open_room(other, unique("b"))
    long = "\U0001f600" * longest
    for room, content in ((room_id, long), (room_id, "after"), (second, long), (second, "after")):
        await one.send(room, content)
    device = await other.connect()
    have = {room_id: 0, second: 0}
    for _ in range(5):
        answer = await synced(device, have)
        assert any(room["messages"] for room in answer.values())
        for room, got in answer.items():
            have[room] = max([have[room], *seqs(got)])
        if not any(room["hasMore"] for room in answer.values()):
            break
    assert have == {room_id: 2, second: 2}


async def test_a_wrong_place_in_malformed_json_is_refused_all_the_same(town: Town) -> None:
    one, _other, room_id = await town.pair()
    raw = await town.raw_chat(one.access_token)
    await raw.send(f'42/chat,1["sync",{{"rooms":{{"{room_id}":"x"}},}}]')
    check_refused(json.loads(await raw.packet("43/chat,1"))[0], "VALIDATION_FAILED")


async def test_numbers_are_judged_by_the_history_that_they_belong_to(town: Town) -> None:
    one, other, room_id = await town.pair()
    unnamed = await one.open_room(other, unique("b"))
    for number in range(5):
        await one.send(room_id, f"{number}")
    device = await other.connect()
    epoch = (await device.call("sync", {"rooms": {}}))["epoch"]
    assert isinstance(epoch, str) and epoch
    joined = await device.call("room:join", {"roomId": room_id})
    assert epoch == (await other.room(room_id))["epoch"] == joined["room"]["epoch"]
    today = await device.call("sync", {"rooms": {room_id: 3}, "epoch": epoch})
    assert (today["epoch"], today["ok"], "reset" in today) == (epoch, True, False)
    assert [seqs(room) for room in today["rooms"] if room["roomId"] == room_id] == [[4, 5]]
    # Nobody can have been given these numbers today.
    refused = await device.call("sync", {"rooms": {unnamed: 1, room_id: 6}, "epoch": epoch})
    check_refused(refused, "VALIDATION_FAILED", f"rooms.{room_id}")
    check_refused(refused, "VALIDATION_FAILED", f"rooms.{unnamed}")
    # A client of before names no epoch: its answer is as it was.
    for before in ({"rooms": {room_id: 6}}, {"rooms": {room_id: 6}, "epoch": None}):
        ack = await device.call("sync", before)
        assert (ack["ok"], "reset" in ack, ack["epoch"]) == (True, False, epoch)
        assert [seqs(room) for room in ack["rooms"]] == [[], []]
    # Of another history, whatever was held is to be thrown away, a room that has gone too.
    stranger = await town.person()
    strange = await stranger.open_room(one)
    other_epoch = await device.call(
        "sync", {"rooms": {room_id: 20, strange: 1, unique(): 3}, "epoch": "that of yesterday"}
    )
    assert (other_epoch["epoch"], other_epoch["reset"]) == (epoch, True)
    assert {room["roomId"]: seqs(room) for room in other_epoch["rooms"]} == {room_id: [1, 2, 3, 4, 5], unnamed: []}
    check_refused(await device.call("sync", {"rooms": {}, "epoch": 7}), "VALIDATION_FAILED", "epoch")
