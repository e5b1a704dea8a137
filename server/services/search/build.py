"""Wires the search for users on its index."""

from server.blocks import BlockIndex
from server.services.search.people import Search
from server.services.search.ports import Limits, People
from server.storage.stores import Stores


def build_search(stores: Stores, people: People, limits: Limits, blocks: BlockIndex) -> Search:
    return Search(stores.search_terms, people, limits, blocks)
