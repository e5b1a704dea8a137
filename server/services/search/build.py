"""Wires the search for users on its index."""

from server.blocks import BlockIndex
from server.services.search.people import Search
from server.services.search.ports import Contact, Limits, People
from server.storage.stores import Stores


def build_search(stores: Stores, people: People, limits: Limits, blocks: BlockIndex, contact: Contact) -> Search:
    return Search(stores.search_terms, people, limits, blocks, contact)
