"""Patches of the embedded store: the next record number, reads of indexes, and `$or`."""

from importlib.metadata import version
from pathlib import Path

import pytest
from secantus.server import SecantusDBServer
from secantus.storage import Storage

from server.embedded import mongodb_serve
from server.embedded.mongodb_serve import find_last_record


def test_another_version_of_the_store_is_refused() -> None:
    mongodb_serve.check_version(version("SecantusDB"))
    with pytest.raises(
        SystemExit, match=r"SecantusDB 0\.7\.1 is installed, and this server needs 0\.7\.0b3: run make setup"
    ):
        mongodb_serve.check_version("0.7.1")


def test_the_thread_that_waits_for_connections_ends_by_itself(tmp_path: Path) -> None:
    server = SecantusDBServer(port=0, storage_path=str(tmp_path / "store"))
    server.start()
    waiting = server._thread
    assert waiting is not None and waiting.is_alive()
    mongodb_serve.stop(server)
    waiting.join()
    assert server._thread is None


def test_the_last_record_is_found_without_looking_at_all(tmp_path: Path) -> None:
    store = Storage(str(tmp_path / "store"), enable_oplog=False)
    try:
        assert find_last_record(store) == 0
        # So many collections that several share a table of the store.
        for number in range(60):
            documents = [{"_id": f"{number}-{index}"} for index in range(1 + number % 3)]
            store.insert(f"database{number % 4}", f"collection{number}", documents)
            assert find_last_record(store) == store._scan_max_nat_seq() > number
        store.delete_matching("database3", "collection59", {})
        assert find_last_record(store) == store._scan_max_nat_seq()
    finally:
        store.close()


def test_records_that_come_after_a_restart_replace_none(tmp_path: Path) -> None:
    folder = str(tmp_path / "store")
    for start in range(3):
        store = Storage(folder, enable_oplog=False)
        store._next_nat_seq = find_last_record(store) + 1
        for collection in ("a", "b"):
            store.insert("database", collection, [{"_id": start * 10 + index} for index in range(10)])
            assert len(store.find_matching("database", collection)) == (start + 1) * 10
        store.close()


def test_an_insert_of_many_reads_the_options_of_indexes_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = 0
    read_options = mongodb_serve.READ_INDEX_OPTIONS

    def count_reads(self: Storage, database: str, collection: str) -> mongodb_serve.IndexOptions:
        nonlocal reads
        reads += 1
        return read_options(self, database, collection)

    monkeypatch.setattr(mongodb_serve, "READ_INDEX_OPTIONS", count_reads)
    monkeypatch.setattr(Storage, "_index_options_map", mongodb_serve.read_index_options)
    monkeypatch.setattr(Storage, "_insert_chunk", mongodb_serve.insert_chunk)
    store = Storage(str(tmp_path / "store"), enable_oplog=False)

    def insert(*places: int) -> tuple[int, list[int]]:
        documents = [{"_id": object_id, "place": place} for object_id, place in zip(ids, places, strict=False)]
        inserted, errors = store.insert("database", "messages", documents, journal=True)
        return inserted, [error["index"] for error in errors]

    try:
        ids = iter(range(1000))
        store.create_index("database", "messages", "place", {"place": 1}, {"unique": True})
        reads = 0
        assert insert(*range(50)) == (50, [])
        assert reads == 1
        # The unique index judges what is stored and what stands in the same insert, and an ordered insert ends there.
        assert insert(50, 7, 51) == (1, [1])
        assert insert(60, 61, 60, 62) == (2, [2])
        # An index that is made or changed between two inserts is seen by the second.
        assert store.drop_index("database", "messages", "place")
        assert insert(7, 7) == (2, [])
        store.create_index("database", "messages", "sparse", {"other": 1}, {"unique": True, "sparse": True})
        assert insert(7, 7) == (2, [])
    finally:
        store.close()


def test_the_branches_of_an_or_are_looked_up_by_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Storage(str(tmp_path / "store"), enable_oplog=False)

    def read_all(*_: object) -> object:
        raise AssertionError("the whole collection is read")

    try:
        store.create_index("database", "messages", "place", {"room": 1, "seq": 1}, {"unique": True})
        documents = [{"_id": f"{room}-{seq}", "room": room, "seq": seq} for room in range(9) for seq in range(1, 6)]
        store.insert("database", "messages", documents)
        branches = [{"room": 3, "seq": 5}, {"room": 4, "seq": {"$gt": 3}}, {"room": 5, "seq": 6}, {"room": 3, "seq": 5}]
        expected = store.find_matching("database", "messages", {"$or": branches})
        monkeypatch.setattr(Storage, "_try_index_id_keys", mongodb_serve.find_by_index)
        assert len(store.find_matching("database", "messages", {"$or": [*branches, {"other": 1}]})) == 3
        monkeypatch.setattr(Storage, "_scan_docs_natural", read_all)
        found = store.find_matching("database", "messages", {"$or": branches})
        assert {document["_id"] for document in found} == {"3-5", "4-4", "4-5"}
        assert sorted(map(str, found)) == sorted(map(str, expected))
    finally:
        store.close()
