"""The history of a round: what was tried, answered and heard, one JSON line each, in the order in which it happened."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Record = dict[str, Any]


class History:
    """Records in the order of `note`, which is the one order of everything, as all clients live in one process.

    Every record holds `k`, its kind, and `t`, seconds since the round began. The kinds:
    `room` r users queues · `listener` u · `send` n i u r c b s · `ack` n m q · `refused` n code · `unknown` n ·
    `dial`/`open`/`lost`/`refused-dial` s u (dead) · `ask` s rooms · `base` s ends (room to seq) · `new` s r q m ·
    `queued`/`synced` s items · `read`/`marked` u r q · `fault` name hurts halts · `healed` name · `killed` ·
    `change` n u m e · `change-ack` n r q v d · `changed` s r q v p d · `held` s r end items (q v d each) ·
    `guest` u r · `move` n r u inside · `moved` n · `peeked` r u status · `inside`/`outside` s r ·
    `guest-held` u r inside · `shut`/`opening` r users · `knock`/`let-in` u · `overheard` r u by b ·
    `seated` r users · `quiet` · `listed` u rooms ends last (room to body) ·
    `end` r q m · `stored` r q m u c b v d gone notice of · `marks` r u delivered read unread · `left` u count
    (items r q m each, n attempt, i intent, u user, r room, c client's own id, b body, s socket, m message id, q seq,
    v number of a change, p the number before it, d state of a message, of
    the users of a notice).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("w", encoding="utf-8")
        self._began = time.monotonic()

    def note(self, kind: str, **fields: Any) -> None:
        if self._file.closed:
            # An answer to somebody who was sent away.
            return
        record = {"k": kind, "t": round(time.monotonic() - self._began, 4), **fields}
        self._file.write(json.dumps(record, ensure_ascii=True, separators=(",", ":")) + "\n")

    def close(self) -> None:
        self._file.close()


def read_history(path: Path) -> Iterator[Record]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)
