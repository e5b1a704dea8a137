"""Raises the file descriptor limit and derives the number of connections from it."""

import logging
import resource
from typing import Final

log = logging.getLogger(__name__)

# Used if the system sets no limit: more than one process can serve.
UNLIMITED: Final = 1 << 20
# Kept for the stores (50 connections to MongoDB), listening sockets, pipes of child processes and libraries.
RESERVED: Final = 128
# One in this many is kept for uploads and downloads: each needs a file descriptor besides its connection.
FILES_DIVISOR: Final = 8
MIN_CONNECTIONS: Final = 16


def raise_limit() -> int:
    """Raise the soft limit as far as allowed and log it; returns the new limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = UNLIMITED if hard == resource.RLIM_INFINITY else hard
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return min(wanted, UNLIMITED)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError) as error:
        log.warning("file descriptor limit not raised limit=%d error=%s", soft, error)
        return soft
    log.info("file descriptor limit raised from=%d to=%d", soft, wanted)
    return wanted


def connections_within(limit: int) -> int:
    """The number of connections that this many file descriptors allow."""
    return max(MIN_CONNECTIONS, limit - RESERVED - limit // FILES_DIVISOR)
