"""The embedded stores: MongoDB's and Redis's wire protocols as child processes, everything inside `data_dir`."""

from server.embedded.children import StartFailed
from server.embedded.export import check_has_mongodb, export_mongodb
from server.embedded.stores import EMBEDDED, Addresses, EmbeddedStores

__all__ = ["EMBEDDED", "Addresses", "EmbeddedStores", "StartFailed", "check_has_mongodb", "export_mongodb"]
