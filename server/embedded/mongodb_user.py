"""Creates the database user of the embedded store, offline, before its first start with authentication.

Run as `python -P mongodb_user.py STORAGE_FOLDER USER PASSWORD_FILE`: a password on the command line would be visible to
every user of the machine. Running it again replaces the password.
"""

import sys
from pathlib import Path

from secantus.auth import derive_credentials
from secantus.storage import Storage


def main(folder: str, user: str, password: str) -> None:
    storage = Storage(folder, enable_oplog=False)
    record = {
        "_id": f"admin.{user}",
        "user": user,
        "db": "admin",
        "credentials": dict(derive_credentials(password, username=user).to_doc()),
        "roles": [{"role": "root", "db": "admin"}],
        "mechanisms": ["SCRAM-SHA-256"],
    }
    storage.add_user("admin", user, record, replace=True)
    storage.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]).read_text("utf-8").strip())
