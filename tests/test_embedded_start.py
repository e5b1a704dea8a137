"""How the embedded store finds the number of its next record when it starts."""

from pathlib import Path

from secantus.storage import Storage

from server.embedded.mongodb_serve import find_last_record


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
