"""Entry point of every child process: binds its lifetime to that of the server, then executes the real program.

Run as `python -I -S child_entry.py LOCK_FILE PARENT_PID PROGRAM ARGUMENT…`; it must not import the project.

The child holds an exclusive lock on LOCK_FILE, which contains its process id, until it and its descendants have ended.
So if the file is locked, the process group with that id is alive and belongs to this child.
"""

import ctypes
import fcntl
import os
import signal
import sys
import time
from typing import NoReturn

PR_SET_PDEATHSIG = 1
LOCK_SECONDS = 10.0
EXIT_LOCKED = 75
EXIT_ORPHANED = 76


def main(lock_file: str, parent: int, command: list[str]) -> NoReturn:
    os.umask(0o077)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    # The server may have died before prctl took effect.
    if os.getppid() != parent:
        sys.exit(EXIT_ORPHANED)
    descriptor = os.open(lock_file, os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > deadline:
                print(f"{lock_file} is still locked by the process before", flush=True)
                sys.exit(EXIT_LOCKED)
            time.sleep(0.02)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    # The lock belongs to the open file description, which the program inherits.
    os.set_inheritable(descriptor, True)
    os.execv(command[0], command)  # noqa: S606 - the server's own command line


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
