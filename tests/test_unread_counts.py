"""Unread counts of groups against a recount of the log, after every step of a random course with kills."""

import random
from typing import Any

import pytest

from tests.conftest import StartServer
from tests.support.people import Person, Town
from tests.support.rest import MESSAGES

ROOMS = f"{MESSAGES}/chat-rooms"
STEPS = 45
KILL_EVERY = 15


class Course:
    """A group, what its owner sees of its log, and a model of who has read what. The owner never leaves."""

    def __init__(self, town: Town, owner: Person, others: list[Person], room_id: str, history: str) -> None:
        self.move_to(town, owner, others)
        self.room_id = room_id
        self.history = history
        self.read = {owner.id: 0}
        self.joined = {owner.id: 0}
        self.log: list[dict[str, Any]] = []

    def move_to(self, town: Town, owner: Person, others: list[Person]) -> None:
        self.owner = town.resident(owner)
        self.others = [town.resident(other) for other in others]

    @property
    def everybody(self) -> list[Person]:
        return [self.owner, *self.others]

    def expected(self, person: Person) -> int:
        start = self.read[person.id]
        if self.history == "JOINED":
            start = max(start, self.joined[person.id])
        return sum(
            1
            for message in self.log
            if message["seq"] > start and message["type"] != "NOTICE" and message["senderId"] != person.id
        )

    async def step(self, chance: random.Random) -> None:
        inside = [person for person in self.everybody if person.id in self.joined]
        person = chance.choice(inside)
        what = chance.choice(["send", "send", "send", "read", "come", "come", "go"])
        if what == "send":
            had_read_all = self.expected(person) == 0
            sent = await person.send(self.room_id, "x")
            if had_read_all:
                self.read[person.id] = sent["seq"]
        elif what == "read" and self.log:
            seen = [message for message in self.log if message["seq"] > self.first(person)]
            message = chance.choice(seen)
            answer = await person.post(f"{MESSAGES}/chats/{self.room_id}/read", {"messageId": message["messageId"]})
            assert answer.status == 200, answer
            self.read[person.id] = max(self.read[person.id], message["seq"])
        elif what == "come":
            outside = [other for other in self.others if other.id not in self.joined]
            if outside:
                comer = chance.choice(outside)
                answer = await self.owner.post(f"{ROOMS}/{self.room_id}/members", {"userIds": [comer.id]})
                assert answer.status == 200, answer
                self.joined[comer.id] = (await self.owner.room(self.room_id))["lastSeq"] - 1
                self.read[comer.id] = 0 if self.history == "JOINED" else self.read.get(comer.id, 0)
        elif what == "go" and person is not self.owner:
            answer = await person.call("DELETE", f"{ROOMS}/{self.room_id}/members/me")
            assert answer.status == 204, answer
            del self.joined[person.id]
        self.log = []
        while len(self.log) % 200 == 0:
            page = await self.owner.history(self.room_id, after=len(self.log), limit=200)
            self.log += page["messages"]
            if not page["pagination"]["hasNext"]:
                break

    def first(self, person: Person) -> int:
        return self.joined[person.id] if self.history == "JOINED" else 0

    async def check(self) -> None:
        assert [message["seq"] for message in self.log] == list(range(1, len(self.log) + 1))
        for person in self.everybody:
            chats = (await person.get(f"{MESSAGES}/chats")).body["chats"]
            counts = {chat["chatId"]: chat["unreadCount"] for chat in chats}
            if person.id in self.joined:
                assert counts == {self.room_id: self.expected(person)}
            else:
                assert counts == {}


@pytest.mark.parametrize("history", ["JOINED", "ALL"])
@pytest.mark.parametrize("seed", [1, 2])
async def test_counts_equal_a_recount(start_server: StartServer, town_at: Any, history: str, seed: int) -> None:
    server = start_server()
    town: Town = town_at(server)
    owner, others = await town.person(), [await town.person() for _ in range(4)]
    made = await owner.post(ROOMS, {"type": "GROUP", "name": "Yard", "history": history})
    course = Course(town, owner, others, made.body["id"], history)
    chance = random.Random(seed)
    for number in range(1, STEPS + 1):
        await course.step(chance)
        if number % KILL_EVERY == 0:
            server.kill()
            server.restart()
            course.move_to(town_at(server), owner, others)
        await course.check()
