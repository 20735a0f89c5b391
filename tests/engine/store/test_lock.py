"""Locks between processes."""

from __future__ import annotations

from pathlib import Path

from fovea.engine.store.lock import Lock


def test_a_lock_is_held_or_free(tmp_path: Path) -> None:
    lock, other = Lock(tmp_path / "lock"), Lock(tmp_path / "lock")
    assert not lock.held_elsewhere()
    assert lock.acquire()
    assert not other.acquire()
    assert other.held_elsewhere()
    lock.release()
    assert other.acquire()
    other.release()
