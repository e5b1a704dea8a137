"""The browser client makes a group, adds and removes people, and leaves, by pointer and keyboard."""

from typing import Any

from tests.conftest import StartServer
from tests.support.browser import ENTER, Browser
from tests.support.chat_page import say, sign_in
from tests.support.groups import ROOMS, chat, make, people, remove
from tests.support.people import Person, Town, unique
from tests.support.ports import free_port
from tests.support.waiting import eventually

IN_ROOM = "return !document.getElementById('room').hidden"
MEMBERS = "return [...document.querySelectorAll('#group-members strong')].map(e => e.textContent)"
PRESS = """const button = [...document.querySelectorAll(arguments[0] + ' button')]
    .find(button => (button.getAttribute('aria-label') ?? button.textContent).includes(arguments[1]));
button.click()"""


async def named(town: Town, count: int) -> list[Person]:
    """People whom a search by name finds alone."""
    return [await town.person(unique("Name"), "Lee") for _ in range(count)]


async def test_one_makes_a_group_of_several(town: Town, first: Browser) -> None:
    one = await town.person()
    ben, cho = await named(town, 2)
    device = await ben.connect()
    sign_in(first, one)
    first.click("#new-chat")
    first.click("#people-group")
    assert first.run("return document.getElementById('make-group').disabled"), "it has no name yet"
    for number, person in enumerate((ben, cho), 1):
        first.type("#people-words", person.user["firstName"] + ENTER)
        first.wait_until("return document.querySelectorAll('#people-found button').length === 1")
        first.type("#people-words", ENTER)
        first.wait_until("return document.querySelectorAll('#people-chosen li').length === arguments[0]", number)
    first.type("#people-name", "Our yard" + ENTER)
    first.wait_until(IN_ROOM)
    told = await device.next("room:new")
    assert (told["name"], told["memberCount"]) == ("Our yard", 3)
    first.wait_text("#room-header h2", "Our yard")
    first.wait_text("#room-header .members", "3 members")
    say(first, "Hello, all!")
    assert (await device.next("message:new", lambda heard: heard["type"] == "TEXT"))["content"] == "Hello, all!"


async def test_an_owner_adds_and_removes_people(town: Town, first: Browser) -> None:
    one = await town.person()
    ben, cho = await named(town, 2)
    room_id = await make(one, ben)
    sign_in(first, one)
    first.click(f"[data-key='{room_id}'] button")
    first.wait_text("#room-header .members", "2 members")
    first.click("#room-header .members")
    first.wait_until(f"{MEMBERS}.length === 2")
    first.type("#group-words", cho.user["firstName"] + ENTER)
    first.wait_until("return document.querySelectorAll('#group-found button').length === 1")
    first.click("#group-found button")
    first.wait_until(f"{MEMBERS}.length === 3")
    first.run(PRESS, "#group-members", f"Remove {ben.name}")
    first.wait_until(f"{MEMBERS}.length === 2")
    assert set(first.run(MEMBERS)) == {one.name, cho.name}
    assert (await chat(ben, room_id)) == {}
    first.run(PRESS, "#group", "Close")
    first.wait_text("#room-header .members", "2 members")
    assert f"{one.name} added {cho.name}" in first.texts("#messages .divider")


async def test_an_owner_changes_the_name_and_a_role(town: Town, first: Browser) -> None:
    one, other = await town.person(), await town.person()
    room_id = await make(one, other)
    device = await other.connect()
    sign_in(first, one)
    first.click(f"[data-key='{room_id}'] button")
    first.click("#room-header .members")
    first.wait_until(f"{MEMBERS}.length === 2")
    first.run("document.getElementById('group-name').value = ''")
    first.type("#group-name", "The barn" + ENTER)
    first.wait_text("#group-title", "The barn")
    first.wait_text("#room-header h2", "The barn")
    assert (await device.next("room:changed"))["room"]["name"] == "The barn"
    role = f"#group-members [data-key='{other.id}'] select"
    first.type(role, "admin")
    assert await device.next("member:changed") == {"roomId": room_id, "userId": other.id, "role": "ADMIN"}
    own = f"#group-members [data-key='{one.id}'] select"
    first.type(own, "member")
    first.wait_text("#group-state", "There must be an owner: make somebody else one first")
    assert first.run("return document.querySelector(arguments[0]).value", own) == "OWNER", "it shows what is"


async def test_a_member_leaves(town: Town, first: Browser) -> None:
    one, other = await town.person(), await town.person()
    room_id = await make(other, one)
    sign_in(first, one)
    first.click(f"[data-key='{room_id}'] button")
    first.wait_text("#room-header .members", "2 members")
    first.click("#room-header .members")
    first.wait_until(f"{MEMBERS}.length === 2")
    assert first.run("return document.getElementById('group-add').hidden"), "plain members add nobody"
    assert first.run("return document.querySelectorAll('#group-members button').length") == 0
    first.click("#group-leave")
    first.wait_text("#group-leave", "Leave? Press again.")
    first.click("#group-leave")
    first.wait_until("return document.getElementById('room').hidden")
    first.wait_until("return document.querySelector('#chat-list button') === null")

    async def has_left() -> bool:
        return bool((await other.room(room_id))["memberCount"] == 1)

    await eventually(has_left, "the server knows")
    # Who is removed while looking at the room is taken out of it.
    await other.post(f"{ROOMS}/{room_id}/members", {"userIds": [one.id]})
    first.click(f"[data-key='{room_id}'] button")
    first.wait_until(IN_ROOM)
    await other.call("DELETE", f"{ROOMS}/{room_id}/members/{one.id}")
    first.wait_until("return document.getElementById('room').hidden")


async def test_who_was_removed_while_away_goes_on_with_the_other_rooms(
    start_server: StartServer, town_at: Any, first: Browser
) -> None:
    port = free_port()
    server = start_server({"server.port": port})
    one, other = await people(town_at(server), 2)
    kept, lost, unopened = await other.open_room(one), await make(other, one), await make(other, one, name="Unopened")
    sign_in(first, one)
    for room_id in (kept, lost):
        first.click(f"[data-key='{room_id}'] button")
        first.wait_until(IN_ROOM)
        say(first, "before")
        first.wait_until("return document.querySelector('.tick.sent') !== null")
    server.stop()
    first.wait_text("#connection", "Not connected")
    # Where the page does not find it.
    server.settings["server.port"] = 0
    server.start()
    other = town_at(server).resident(other)
    for room_id in (lost, unopened):
        assert (await remove(other, room_id, one.id)).status == 204
    await other.send(kept, "while away")
    server.stop()
    server.settings["server.port"] = port
    server.start()
    first.wait_until("return document.getElementById('room').hidden")
    first.wait_until("return document.querySelectorAll('#chat-list li').length === 1")
    first.click(f"[data-key='{kept}'] button")
    first.wait_text("#messages .content", "while away")
    await town_at(server).resident(other).send(kept, "and live")
    first.wait_text("#messages .content", "and live")
