"""Wires blocking and reports."""

from typing import NamedTuple

from server.blocks import BlockIndex
from server.realtime.fan_out import FanOut
from server.services.safety.blocking import Blocking
from server.services.safety.ports import MessageAccess, People, Presence
from server.services.safety.reports import Reports
from server.storage.stores import Stores


class SafetyServices(NamedTuple):
    blocking: Blocking
    reports: Reports


def build_safety(
    stores: Stores, index: BlockIndex, people: People, presence: Presence, fan_out: FanOut, access: MessageAccess
) -> SafetyServices:
    return SafetyServices(Blocking(stores.blocks, index, people, presence, fan_out), Reports(stores.reports, access))
