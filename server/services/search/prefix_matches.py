"""What the search index has behind a prefix: how many users, and the keys of the first ones."""

from collections.abc import AsyncIterator
from typing import Final

from server.storage.mongo.search_terms import SEPARATOR, Node, SearchTerms

# Nodes below others that are read at once, if those above do not hold enough keys.
NODES_AT_ONCE: Final = 20


class PrefixMatches:
    """The users that one prefix finds: how many (`total`), and the keys of the first ones in order.

    A key is stored at its first prefix that was not popular then, so the keys behind a prefix are in its own node and
    in those above and below. The nodes of whole words (`ann ` for `ann`) are read too, so that these are listed first.
    """

    def __init__(self, prefix: str, nodes: dict[str, Node]) -> None:
        self.prefix = prefix
        above = [key for node in nodes.values() if len(node.prefix) < len(prefix) for key in node.keys]
        stopped = {key for key in above if key.startswith(prefix)}
        node = nodes.get(prefix, Node(prefix))
        words = [key for word in _whole_words(prefix) if word in nodes for key in nodes[word].keys]
        # The count does not include the owners of keys that stopped above.
        self.total = node.count + len(set(map(owner_of, stopped)))
        self.keys = sorted({*stopped, *node.keys, *words})
        self.below = node.below

    @property
    def is_complete(self) -> bool:
        """Whether `keys` has keys of all users found."""
        return len(set(map(owner_of, self.keys))) >= self.total

    @property
    def owners(self) -> list[str]:
        """The ids of the users whose keys are here, in the order of these."""
        return list(dict.fromkeys(map(owner_of, self.keys)))

    def owners_of_term(self) -> list[str]:
        """The ids of users with a term that is the whole prefix."""
        return [owner_of(key) for key in self.keys if key.startswith(self.prefix + SEPARATOR)]


class PrefixReader:
    """Reads what is behind prefixes."""

    def __init__(self, search_terms: SearchTerms) -> None:
        self._search_terms = search_terms

    async def find(self, prefix: str, part: str = "") -> PrefixMatches:
        """One read. `part` is what all keys of a part of the index begin with. Raises `Unavailable`."""
        whole = part + prefix
        ancestors = [part + prefix[:length] for length in range(1, len(prefix) + 1)]
        return PrefixMatches(whole, await self._search_terms.nodes([*ancestors, *_whole_words(whole)]))

    async def keys(self, found: PrefixMatches) -> AsyncIterator[list[str]]:
        """All keys behind the prefix, in lists of one bounded read each; the first needs no read."""
        yield found.keys
        if found.is_complete:
            return
        below = found.below
        while below:
            some, below = below[:NODES_AT_ONCE], below[NODES_AT_ONCE:]
            nodes = (await self._search_terms.nodes(some)).values()
            below = [*below, *(lower for node in nodes for lower in node.below)]
            yield sorted(key for node in nodes for key in node.keys)


def owner_of(key: str) -> str:
    """The id of the user who has this key."""
    return key.rpartition(SEPARATOR)[2]


def _whole_words(prefix: str) -> list[str]:
    return [prefix + SEPARATOR, f"{prefix} "]
