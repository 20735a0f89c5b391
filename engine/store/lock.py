"""A lock between processes that the system releases when its holder dies, however it dies."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock, Timeout


class Lock:
    """An advisory lock on a file. The file stays when the lock is given back; only the hold ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = FileLock(path, blocking=False, thread_local=False)

    def acquire(self) -> bool:
        """Take it if it is free; whether it was. Whoever holds it cannot take it a second time."""
        if self._file.is_locked:
            return False
        try:
            self._file.acquire()
        except Timeout:
            return False
        return True

    def release(self) -> None:
        """Give it back; without effect if it is not held."""
        self._file.release()

    def held_elsewhere(self) -> bool:
        """Whether somebody (this process included) holds it now."""
        if not self.path.exists():
            return False
        probe = Lock(self.path)
        if probe.acquire():
            probe.release()
            return False
        return True
