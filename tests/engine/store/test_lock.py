"""Locks between processes."""

from __future__ import annotations

import subprocess
import sys
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


def test_its_holder_cannot_take_it_twice(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "lock")
    assert lock.acquire()
    assert not lock.acquire()
    lock.release()
    assert not lock.held_elsewhere()
    assert lock.path.exists()


def test_a_dead_process_holds_nothing(tmp_path: Path) -> None:
    code = "import sys, time; from filelock import FileLock; lock = FileLock(sys.argv[1]); lock.acquire(); "
    holder = subprocess.Popen(
        [sys.executable, "-c", code + "print('held', flush=True); time.sleep(1000)", str(tmp_path / "lock")],
        stdout=subprocess.PIPE,
    )
    lock = Lock(tmp_path / "lock")
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert not lock.acquire()
    finally:
        holder.kill()
        holder.communicate()
    assert lock.acquire()
    lock.release()
