"""File descriptors: as many as the system allows, and how many connections may take one of them."""

import logging
import resource
from typing import Final

log = logging.getLogger(__name__)

# Where the system sets no limit: more than any server of one process serves.
UNLIMITED: Final = 1 << 20
# For the stores (50 connections to MongoDB), listening sockets, pipes of children, libraries.
RESERVED: Final = 128
# And one in so many for files that are sent and received: each has a connection, and a descriptor besides.
SHARE_OF_FILES: Final = 8
LEAST: Final = 16


def raise_limit() -> int:
    """Raise the limit of descriptors as far as this process may, and say so; returns what it is then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = UNLIMITED if hard == resource.RLIM_INFINITY else hard
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return min(wanted, UNLIMITED)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError) as error:
        log.warning("the limit of file descriptors stays at %d: %s", soft, error)
        return soft
    log.info("the limit of file descriptors was raised from %d to %d", soft, wanted)
    return wanted


def connections_within(limit: int) -> int:
    """How many connections may be open where so many descriptors may."""
    return max(LEAST, limit - RESERVED - limit // SHARE_OF_FILES)
