"""The state of a message, in short: what changes may change, and what is the same for everybody."""

import hashlib
import json
from typing import Any

# What an edit adds to a body, so that the judge can tell what was sent.
MARK = " ~"


def digest(message: dict[str, Any]) -> str:
    """Twelve characters for the text, the times and the reactions of a message."""
    reactions = [(one["emoji"], one["count"], sorted(one["userIds"])) for one in message.get("reactions", [])]
    state = [message["content"], *(message.get(name) for name in ("editedAt", "deletedAt", "pinnedAt")), reactions]
    return hashlib.blake2b(json.dumps(state).encode(), digest_size=6).hexdigest()
