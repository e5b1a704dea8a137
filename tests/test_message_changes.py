"""Messages that change: edits, deletions, reactions, pins, replies, mentions and forwards, for everybody alike."""

import asyncio
from typing import Any
from urllib.parse import quote

import pytest
from tornado.httpclient import HTTPError

from tests.conftest import StartServer
from tests.support.device import Device
from tests.support.groups import ROOMS, chat, make, people, remove
from tests.support.people import Person, Town
from tests.support.rest import MESSAGES, Answer
from tests.support.shapes import check_problem, check_refused
from tests.support.uploads import PDF, fetch, upload
from tests.support.waiting import eventually

CHANGED = "message:changed"
THUMB = "\N{THUMBS UP SIGN}"


async def edit(person: Person, message: dict[str, Any], content: str, **fields: Any) -> Answer:
    return await person.call("PATCH", f"{MESSAGES}/{message['messageId']}", {"content": content, **fields})


async def delete(person: Person, message: dict[str, Any]) -> Answer:
    return await person.call("DELETE", f"{MESSAGES}/{message['messageId']}")


async def react(person: Person, message: dict[str, Any], emoji: str, method: str = "PUT") -> Answer:
    return await person.call(method, f"{MESSAGES}/{message['messageId']}/reactions/{quote(emoji)}")


async def pin(person: Person, message: dict[str, Any], method: str = "PUT") -> Answer:
    return await person.call(method, f"{MESSAGES}/{message['messageId']}/pin")


async def find(person: Person, message: dict[str, Any]) -> dict[str, Any]:
    """The message as history has it."""
    page = await person.history(message["roomId"], after=message["seq"] - 1, limit=1)
    return dict(page["messages"][0])


async def synced(device: Device, room_id: str, seq: int, rev: int) -> dict[str, Any]:
    ack = await device.call("sync", {"rooms": {room_id: {"seq": seq, "rev": rev}}})
    assert ack["ok"], ack
    return next(room for room in ack["rooms"] if room["roomId"] == room_id)


async def test_an_edit_is_told_to_everybody_and_stays(town: Town) -> None:
    one, other, room_id = await town.pair()
    mine, theirs = await one.connect(), await other.connect()
    message = await one.send(room_id, "helo")
    answer = await edit(one, message, "hello")
    assert answer.status == 200 and answer.body["content"] == "hello" and answer.body["editedAt"]
    for device, person in ((mine, one), (theirs, other)):
        told = await device.next(CHANGED)
        assert (told["roomId"], told["kind"], told["by"], told["prevRev"]) == (room_id, "EDITED", one.id, 0)
        assert told["rev"] == told["message"]["rev"] == (await person.room(room_id))["lastRev"]
        assert told["message"] == await find(person, message)
    assert (await chat(other, room_id))["lastMessage"] == "hello"
    assert (await edit(one, message, "hello")).body["rev"] == answer.body["rev"], "the same text changes nothing"
    ack = await mine.call("message:edit", {"messageId": message["messageId"], "content": "hello!"})
    assert ack["ok"] and ack["message"]["content"] == "hello!"
    again = await theirs.next(CHANGED)
    assert (again["prevRev"], again["rev"]) == (answer.body["rev"], ack["message"]["rev"])


async def test_who_may_edit_what(town: Town) -> None:
    ann, bob, cho = await people(town, 3)
    room_id = await make(ann, bob)
    message = await bob.send(room_id, "mine")
    check_problem(await edit(ann, message, "ours"), "FORBIDDEN")
    check_problem(await edit(cho, message, "ours"), "NOT_FOUND")
    check_problem(await edit(bob, message, "  "), "VALIDATION_FAILED", "content")
    check_problem(await edit(bob, message, "x" * 10_001), "VALIDATION_FAILED", "content")
    check_problem(await edit(bob, message, "x", mentions=[cho.id]), "VALIDATION_FAILED", "mentions.0")
    notice = (await ann.history(room_id, after=0))["messages"][0]
    check_problem(await edit(ann, notice, "x"), "CONFLICT")
    check_problem(await delete(ann, notice), "CONFLICT")
    assert (await delete(bob, message)).status == 200
    check_problem(await edit(bob, message, "back"), "CONFLICT")
    check_problem(await react(bob, message, THUMB), "CONFLICT")
    check_problem(await pin(ann, message), "CONFLICT")
    await remove(ann, room_id, bob.id)
    check_problem(await delete(bob, message), "NOT_FOUND")


async def test_the_edit_window_ends(start_server: StartServer, town_at: Any) -> None:
    town: Town = town_at(start_server({"messages.edit_window": "1s"}))
    one, _other, room_id = await town.pair()
    message = await one.send(room_id, "now or never")
    assert (await edit(one, message, "now")).status == 200

    async def is_over() -> bool:
        return (await edit(one, message, "never")).status == 403

    await eventually(is_over, "the window ends")
    answer = await edit(one, message, "too late")
    check_problem(answer, "FORBIDDEN")
    assert "messages.edit_window" in answer.body["detail"]


async def test_a_deletion_leaves_nothing(start_server: StartServer, town_at: Any) -> None:
    settings = {"uploads.orphan_ttl": "1s", "sweep.interval": "100ms", "presence.grace": "100ms"}
    town: Town = town_at(start_server(settings))
    one, other, room_id = await town.pair()
    picture = await upload(one, PDF, "a.pdf")
    message = await one.send(room_id, "a secret", attachmentUrl=picture["fileUrl"], mentions=[other.id])
    await react(other, message, THUMB)
    await pin(other, message)
    answer = await other.send(room_id, "what?", replyTo=message["messageId"])
    assert answer["replyTo"]["content"] == "a secret"
    assert (await chat(other, room_id))["mentionCount"] == 1
    last = await one.send(room_id, "another secret")
    for gone in (message, last):
        deleted = (await delete(one, gone)).body
        assert (deleted["content"], deleted["type"], deleted["attachmentUrl"]) == ("", "TEXT", None)
        assert deleted["deletedAt"] and deleted["seq"] == gone["seq"]
        assert not {"reactions", "mentions", "pinnedAt", "replyTo"} & deleted.keys()
        assert await find(other, gone) == deleted
        assert (await delete(one, gone)).body["rev"] == deleted["rev"], "it is deleted once"
    quoted = (await find(other, answer))["replyTo"]
    assert quoted["content"] == "" and quoted["deletedAt"]
    line = await chat(other, room_id)
    assert (line["mentionCount"], line["lastMessage"]) == (0, "")
    assert (await one.get(f"{MESSAGES}/chats/{room_id}/pins")).body == {"messages": []}
    # It was on the offline queue.
    device = await other.connect()
    queued = {entry["seq"]: entry["content"] for entry in await device.next("messages:offline")}
    assert queued[last["seq"]] == ""

    async def is_gone() -> bool:
        return (await fetch(one, picture["fileUrl"])).status == 404

    await eventually(is_gone, "the file is removed")


async def test_a_file_stays_while_a_message_uses_it(start_server: StartServer, town_at: Any) -> None:
    town: Town = town_at(start_server({"uploads.orphan_ttl": "1s", "sweep.interval": "100ms"}))
    one, other, room_id = await town.pair()
    third = await town.person()
    far = await other.open_room(third)
    first, second = [await upload(one, PDF, "a.pdf") for _ in range(2)]
    kept = await one.send(room_id, "", attachmentUrl=first["fileUrl"])
    gone = await one.send(room_id, "", attachmentUrl=second["fileUrl"])
    copy = await other.send(far, "", forward=kept["messageId"])
    assert copy["attachmentUrl"] == first["fileUrl"] and copy["forwardedFrom"] == {"senderName": one.name}
    await delete(one, kept)
    await delete(one, gone)

    async def is_gone() -> bool:
        return (await fetch(one, second["fileUrl"])).status == 404

    await eventually(is_gone, "the other file is removed")
    assert (await fetch(third, first["fileUrl"])).status == 200
    await delete(other, copy)

    async def is_gone_too() -> bool:
        return (await fetch(one, first["fileUrl"])).status == 404

    await eventually(is_gone_too, "the file is removed with its last message")


async def test_owners_and_admins_may_delete(town: Town) -> None:
    ann, bob, cho = await people(town, 3)
    room_id = await make(ann, bob, cho)
    messages = [await bob.send(room_id, str(number)) for number in range(2)]
    check_problem(await delete(cho, messages[0]), "FORBIDDEN")
    assert (await delete(ann, messages[0])).status == 200
    await ann.call("PATCH", f"{ROOMS}/{room_id}/members/{cho.id}", {"role": "ADMIN"})
    assert (await delete(cho, messages[1])).status == 200
    one, other, direct = await town.pair()
    check_problem(await delete(other, await one.send(direct, "mine")), "FORBIDDEN")


async def test_reactions(town: Town) -> None:
    ann, bob, cho = await people(town, 3)
    room_id = await make(ann, bob, cho)
    message = await ann.send(room_id, "Lunch?")
    device = await bob.connect()
    answers = await asyncio.gather(*(react(person, message, THUMB) for person in (ann, bob, cho)))
    assert all(answer.status == 200 for answer in answers), answers
    for person in (ann, bob, cho):
        (reaction,) = (await find(person, message))["reactions"]
        assert (reaction["emoji"], reaction["count"], reaction["mine"]) == (THUMB, 3, True)
        assert set(reaction["userIds"]) == {ann.id, bob.id, cho.id}
    told = [await device.next(CHANGED) for _ in range(3)]
    assert [one["prevRev"] for one in told] == [0, *(one["rev"] for one in told[:2])]
    assert [one["message"]["reactions"][0]["count"] for one in told] == [1, 2, 3]
    rev = (await react(bob, message, THUMB)).body["rev"]
    assert rev == told[-1]["rev"], "once per person and emoji"
    ack = await device.call("message:react", {"messageId": message["messageId"], "emoji": THUMB, "remove": True})
    (left,) = ack["message"]["reactions"]
    assert (left["count"], left["mine"], set(left["userIds"])) == (2, False, {ann.id, cho.id})
    for person in (ann, cho):
        assert (await react(person, message, THUMB, "DELETE")).status == 200
    assert "reactions" not in await find(ann, message)


ONE_EMOJI = (
    "\N{HEAVY BLACK HEART}\N{VARIATION SELECTOR-16}",
    "\N{WAVING HAND SIGN}\N{EMOJI MODIFIER FITZPATRICK TYPE-4}",
    "\N{WOMAN}\N{ZERO WIDTH JOINER}\N{PERSONAL COMPUTER}",
    "1\N{VARIATION SELECTOR-16}\N{COMBINING ENCLOSING KEYCAP}",
    "\N{REGIONAL INDICATOR SYMBOL LETTER K}\N{REGIONAL INDICATOR SYMBOL LETTER R}",
)
NO_EMOJI = (
    "a",
    "1",
    ":thumbsup:",
    THUMB * 2,
    "x" + THUMB,
    "\N{ZERO WIDTH JOINER}",
    "\N{EMOJI MODIFIER FITZPATRICK TYPE-4}",
    "\N{REGIONAL INDICATOR SYMBOL LETTER K}",
    " ",
)


async def test_a_reaction_is_one_emoji(town: Town) -> None:
    one, other, room_id = await town.pair()
    message = await one.send(room_id, "x")
    device = await other.connect()
    for emoji in ONE_EMOJI:
        assert (await react(other, message, emoji)).status == 200, emoji
    for emoji in NO_EMOJI:
        check_problem(await react(other, message, emoji), "VALIDATION_FAILED", "emoji")
        ack = await device.call("message:react", {"messageId": message["messageId"], "emoji": emoji})
        check_refused(ack, "VALIDATION_FAILED", "emoji")
    for number in range(20 - len(ONE_EMOJI)):
        assert (await react(other, message, chr(0x1F600 + number))).status == 200
    check_problem(await react(one, message, THUMB), "CONFLICT")
    assert (await react(one, message, ONE_EMOJI[0])).status == 200, "what is there may be joined"


async def test_pins(town: Town) -> None:
    ann, bob, cho = await people(town, 3)
    room_id = await make(ann, bob)
    messages = [await bob.send(room_id, str(number)) for number in range(51)]
    check_problem(await pin(bob, messages[0]), "FORBIDDEN")
    device = await bob.connect()
    for message in messages[:50]:
        assert (await pin(ann, message)).status == 200
    told = await device.next(CHANGED)
    assert (told["kind"], told["message"]["pinnedBy"]) == ("PINNED", ann.id) and told["message"]["pinnedAt"]
    check_problem(await pin(ann, messages[50]), "CONFLICT")
    pins = (await bob.get(f"{MESSAGES}/chats/{room_id}/pins")).body["messages"]
    assert sorted(message["seq"] for message in pins) == [message["seq"] for message in messages[:50]]
    assert pins[0] == await find(bob, pins[0])
    assert (await pin(ann, messages[0], "DELETE")).status == 200
    assert "pinnedAt" not in await find(bob, messages[0])
    assert (await pin(ann, messages[50])).status == 200
    one, other, direct = await town.pair()
    message = await one.send(direct, "x")
    assert (await pin(other, message)).status == 200, "anybody in a direct room"
    mine = await other.connect()
    ack = await mine.call("message:pin", {"messageId": message["messageId"], "remove": True})
    assert ack["ok"] and "pinnedAt" not in ack["message"]
    check_problem(await cho.get(f"{MESSAGES}/chats/{room_id}/pins"), "NOT_FOUND")


async def test_replies_show_what_they_answer(town: Town) -> None:
    one, other, room_id = await town.pair()
    mine, theirs = await one.connect(), await other.connect()
    message = await one.send(room_id, "q" * 300)
    ack = await theirs.call("message:send", {"roomId": room_id, "content": "a", "replyTo": message["messageId"]})
    quoted = {
        "messageId": message["messageId"],
        "seq": message["seq"],
        "senderId": one.id,
        "senderName": one.name,
        "content": "q" * 200,
        "type": "TEXT",
    }
    assert ack["message"]["replyTo"] == quoted
    assert (await mine.next("message:new", lambda heard: heard["content"] == "a"))["replyTo"] == quoted
    assert (await find(one, ack["message"]))["replyTo"] == quoted
    await edit(one, message, "shorter")
    assert (await find(one, ack["message"]))["replyTo"]["content"] == "shorter"
    elsewhere = await one.send(await one.open_room(other, "booking"), "far")
    for wrong in (elsewhere["messageId"], "0" * 32):
        sent = await other.post(f"{MESSAGES}/chats/{room_id}/messages", {"content": "x", "replyTo": wrong})
        check_problem(sent, "VALIDATION_FAILED", "replyTo")


async def test_who_joined_later_sees_no_quote_of_before(town: Town) -> None:
    ann, bob, cho = await people(town, 3)
    room_id = await make(ann, bob, history="JOINED")
    before = await ann.send(room_id, "of old")
    await ann.post(f"{ROOMS}/{room_id}/members", {"userIds": [cho.id]})
    device, other = await cho.connect(), await bob.connect()
    reply = await ann.send(room_id, "as I said", replyTo=before["messageId"])
    assert "replyTo" not in await device.next("message:new", lambda heard: heard["seq"] == reply["seq"])
    heard = await other.next("message:new", lambda heard: heard["seq"] == reply["seq"])
    assert heard["replyTo"]["content"] == "of old"
    await react(bob, reply, THUMB)
    assert "replyTo" not in (await device.next(CHANGED))["message"]
    assert (await other.next(CHANGED))["message"]["replyTo"]["content"] == "of old"
    assert "replyTo" not in await find(cho, reply)
    # Of what they may not see they hear no changes either.
    await edit(ann, before, "of older")
    await edit(ann, reply, "as I say")
    assert (await device.next(CHANGED))["message"]["content"] == "as I say"
    state = await synced(device, room_id, reply["seq"], 0)
    assert [message["seq"] for message in state["changed"]] == [reply["seq"]]
    check_problem(await react(cho, before, THUMB), "NOT_FOUND")
    taken = await cho.post(f"{MESSAGES}/chats/{room_id}/messages", {"forward": before["messageId"]})
    check_problem(taken, "VALIDATION_FAILED", "forward")


async def test_mentions_are_counted(town: Town) -> None:
    ann, bob, cho, stranger = await people(town, 4)
    room_id = await make(ann, bob, cho)
    first = await ann.send(room_id, "@bob", mentions=[bob.id, bob.id, ann.id])
    assert first["mentions"] == [bob.id, ann.id]
    assert (await ann.send(room_id, "@all", mentionsRoom=True))["mentionsRoom"] is True
    await bob.send(room_id, "plain")
    assert [(await chat(one, room_id))["mentionCount"] for one in (ann, bob, cho)] == [0, 2, 1]
    await bob.post(f"{MESSAGES}/chats/{room_id}/read", {"messageId": first["messageId"]})
    assert (await chat(bob, room_id))["mentionCount"] == 1
    later = await ann.send(room_id, "@cho", mentions=[cho.id])
    await edit(ann, later, "@cho, @bob", mentions=[bob.id, cho.id])
    assert (await chat(bob, room_id))["mentionCount"] == 2
    await edit(ann, later, "@bob", mentions=[bob.id])
    await edit(ann, later, "@bob!")
    assert [(await chat(one, room_id))["mentionCount"] for one in (ann, bob, cho)] == [0, 2, 1]
    sent = await ann.post(f"{MESSAGES}/chats/{room_id}/messages", {"content": "x", "mentions": [bob.id, stranger.id]})
    check_problem(sent, "VALIDATION_FAILED", "mentions.1")
    device = await ann.connect()
    ack = await device.call("message:send", {"roomId": room_id, "content": "x", "mentions": [stranger.id]})
    check_refused(ack, "VALIDATION_FAILED", "mentions.0")


async def test_forwards(town: Town) -> None:
    one, other, room_id = await town.pair()
    third = await town.person()
    far, farther = await other.open_room(third), await third.open_room(one)
    message = await one.send(room_id, "news")
    copy = await other.send(far, "", forward=message["messageId"], clientMessageId="copy")
    assert (copy["content"], copy["senderId"], copy["forwardedFrom"]) == ("news", other.id, {"senderName": one.name})
    again = await third.send(farther, "", forward=copy["messageId"])
    assert again["forwardedFrom"] == {"senderName": one.name}, "the first sender"
    await edit(one, message, "old news")
    assert (await find(third, copy))["content"] == "news", "a copy is a message of its own"
    await delete(one, message)
    path = f"{MESSAGES}/chats/{far}/messages"
    repeated = await other.post(path, {"forward": message["messageId"], "clientMessageId": "copy"})
    assert (repeated.status, repeated.body["messageId"]) == (200, copy["messageId"])
    check_problem(await other.post(path, {"forward": message["messageId"]}), "VALIDATION_FAILED", "forward")
    check_problem(await third.post(path, {"forward": message["messageId"]}), "VALIDATION_FAILED", "forward")
    both = {"forward": copy["messageId"], "content": "x"}
    check_problem(await other.post(path, both), "VALIDATION_FAILED", "forward")


async def test_sync_gives_what_changed(town: Town) -> None:
    one, other, room_id = await town.pair()
    messages = [await one.send(room_id, str(number)) for number in range(6)]
    device = await other.connect()
    before = await synced(device, room_id, 3, 0)
    assert before["changed"] == [] and (before["lastSeq"], before["lastRev"]) == (6, 0)
    for number in (0, 1, 4):
        await edit(one, messages[number], f"{number}!")
    await edit(one, messages[0], "0!!")
    await delete(one, messages[2])
    state = await synced(device, room_id, 3, 0)
    assert [(one["seq"], one["content"]) for one in state["changed"]] == [(2, "1!"), (1, "0!!"), (3, "")]
    assert [one["content"] for one in state["messages"]] == ["3", "4!", "5"]
    assert state["lastRev"] == (await one.room(room_id))["lastRev"] and state["hasMore"] is False
    assert (await synced(device, room_id, 6, state["lastRev"]))["changed"] == []
    half = state["changed"][0]["rev"]
    assert [one["seq"] for one in (await synced(device, room_id, 6, half))["changed"]] == [5, 1, 3]
    plain = await device.call("sync", {"rooms": {room_id: 3}})
    room = next(room for room in plain["rooms"] if room["roomId"] == room_id)
    assert room["changed"] == [] and [one["seq"] for one in room["messages"]] == [4, 5, 6]
    request = {"rooms": {room_id: {"seq": 6, "rev": state["lastRev"] + 1}}, "epoch": plain["epoch"]}
    check_refused(await device.call("sync", request), "VALIDATION_FAILED", f"rooms.{room_id}.rev")


async def test_many_changes_come_in_parts(town: Town) -> None:
    one, other, room_id = await town.pair()
    messages = [await one.send(room_id, str(number)) for number in range(450)]
    device = await one.connect()
    for message in messages:
        assert (await device.call("message:edit", {"messageId": message["messageId"], "content": "new"}))["ok"]
    theirs = await other.connect()
    seen: dict[int, str] = {}
    rev, has_more = 0, True
    while has_more:
        state = await synced(theirs, room_id, 450, rev)
        seen.update((message["seq"], message["content"]) for message in state["changed"])
        rev, has_more = state["lastRev"], state["hasMore"]
    assert seen == {message["seq"]: "new" for message in messages}


async def test_unread_counts_are_not_touched(town: Town) -> None:
    one, other, room_id = await town.pair()
    messages = [await one.send(room_id, str(number)) for number in range(3)]
    await edit(one, messages[0], "0!")
    await react(other, messages[1], THUMB)
    await delete(one, messages[2])
    assert (await chat(other, room_id))["unreadCount"] == 3
    answer = await other.get(f"{MESSAGES}/{messages[0]['messageId']}/receipts")
    assert answer.body == {"readCount": 0, "deliveredCount": 0, "readBy": []}
    await other.post(f"{MESSAGES}/chats/{room_id}/read", {"messageId": messages[1]["messageId"]})
    assert (await chat(other, room_id))["unreadCount"] == 1
    answer = await one.get(f"{MESSAGES}/{messages[0]['messageId']}/receipts")
    assert answer.body == {"readCount": 1, "deliveredCount": 1, "readBy": [{"userId": other.id}]}


@pytest.mark.parametrize("ending", ["kill", "stop"])
async def test_acknowledged_changes_outlive_the_server(start_server: StartServer, town_at: Any, ending: str) -> None:
    server = start_server()
    town: Town = town_at(server)
    one, other, room_id = await town.pair()
    messages = [await one.send(room_id, str(number), mentions=[other.id]) for number in range(3)]
    await edit(one, messages[0], "edited")
    await react(other, messages[1], THUMB)
    last = (await delete(one, messages[2])).body
    getattr(server, ending)()
    server.restart()
    town = town_at(server)
    one, other = town.resident(one), town.resident(other)
    line = await chat(other, room_id)
    assert (line["lastMessage"], line["lastRev"], line["mentionCount"]) == ("", last["rev"], 2)
    assert [await find(one, message) for message in messages][2] == {**last, "isRead": False}
    device = await other.connect()
    state = await synced(device, room_id, 3, 0)
    assert [message["seq"] for message in state["changed"]] == [1, 2, 3]
    changed = (await edit(one, messages[1], "after")).body
    told = await device.next(CHANGED)
    assert (told["prevRev"], told["rev"]) == (last["rev"], changed["rev"]) and changed["reactions"][0]["count"] == 1


async def test_a_change_that_a_crash_cut_is_whole_or_not_there(
    start_server: StartServer, town_at: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server dies after the change is stored and before anybody heard of it."""
    monkeypatch.setenv("CRASH_AT_MADANG", "after-change")
    server = start_server()
    monkeypatch.delenv("CRASH_AT_MADANG")
    town: Town = town_at(server)
    one, other, room_id = await town.pair()
    message = await one.send(room_id, "secret")
    with pytest.raises((HTTPError, OSError)):
        await delete(one, message)
    server.kill()
    server.restart()
    town = town_at(server)
    one, other = town.resident(one), town.resident(other)
    assert (await chat(other, room_id))["lastMessage"] == ""
    assert (await other.room(room_id))["lastMessage"]["deletedAt"]
    device = await other.connect()
    state = await synced(device, room_id, 1, 0)
    assert [message["content"] for message in state["changed"]] == [""]
    assert (await delete(one, message)).body["rev"] == state["changed"][0]["rev"]
