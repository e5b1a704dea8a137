"""The stores below the server of a round, and what faults may do to them."""

from dataclasses import dataclass, field
from pathlib import Path

from tests.torture.outside import OutsideStores


@dataclass
class Ground:
    """`data_dir` where it is not in `folder`; `stores` outside; `redis_url` where Redis is named; `clock`, the file
    that says the server's time; `disk`, the small disk that holds all data."""

    folder: Path
    settings: dict[str, object] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    data_dir: Path | None = None
    stores: OutsideStores | None = None
    redis_url: str = ""
    clock: Path | None = None
    disk: Path | None = None
