"""Secrets generated at the first start: once, the same for all processes, readable by the owner only."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from server.config.secret_files import read_or_make_secret


def test_a_secret_is_made_once_and_is_private(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    secret = read_or_make_secret(file)
    assert len(secret) >= 32
    assert file.stat().st_mode & 0o777 == 0o600
    assert read_or_make_secret(file) == secret
    assert read_or_make_secret(tmp_path / "other") != secret
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "secret"]


def test_many_at_once_get_the_same_secret(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        secrets = set(pool.map(read_or_make_secret, [tmp_path / "secret"] * 64))
    assert len(secrets) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


def test_a_readable_secret_is_closed(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("s" * 32)
    file.chmod(0o644)
    assert read_or_make_secret(file) == "s" * 32
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", [b"", b"\n", b"short", b"\xff" * 64])
def test_a_file_without_a_secret_is_refused(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_bytes(content)
    with pytest.raises(ValueError, match="holds no secret"):
        read_or_make_secret(file)
