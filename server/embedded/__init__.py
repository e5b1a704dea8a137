"""Embedded stores: servers with the wire protocols of MongoDB and Redis, as child processes, inside `data_dir`."""

from server.embedded.children import StartFailed
from server.embedded.export import check_has_mongodb, export_mongodb
from server.embedded.stores import EMBEDDED, Addresses, EmbeddedStores

__all__ = ["EMBEDDED", "Addresses", "EmbeddedStores", "StartFailed", "check_has_mongodb", "export_mongodb"]
