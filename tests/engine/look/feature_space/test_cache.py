"""Kept features are dropped when they grow too large: the oldest first, never what a run may be reading."""

from __future__ import annotations

import os
import time
from pathlib import Path

from fovea.engine.look.feature_space.cache import IN_USE_SECONDS, drop_unused, mark_used
from fovea.engine.store.lock import Lock


def kept(root: Path, name: str, hours: float, size: int = 1000) -> Path:
    """Features of that size that were last used so long ago."""
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "vectors.npy").write_bytes(bytes(size))
    note = folder / "features.json"
    note.touch()
    os.utime(note, (time.time() - 3600 * hours,) * 2)
    return folder


def names(root: Path) -> set[str]:
    return {path.name for path in root.iterdir() if path.is_dir()}


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    for name, hours in (("a", 5), ("b", 9), ("c", 7), ("mine", 20)):
        kept(tmp_path, name, hours)
    assert drop_unused(tmp_path, keep=tmp_path / "mine", limit=2500) == ["b", "c"]
    assert names(tmp_path) == {"a", "mine"}
    assert drop_unused(tmp_path, keep=tmp_path / "mine", limit=2500) == []


def test_what_a_run_may_read_or_write_stays(tmp_path: Path) -> None:
    kept(tmp_path, "mine", 9)
    kept(tmp_path, "read lately", IN_USE_SECONDS / 3600 / 2)
    written = Lock(kept(tmp_path, "written", 8).with_suffix(".lock"))
    used_again = kept(tmp_path, "used again", 12)
    mark_used(used_again)
    assert written.acquire()
    assert drop_unused(tmp_path, keep=tmp_path / "mine", limit=0) == []
    written.release()
    assert drop_unused(tmp_path, keep=tmp_path / "mine", limit=0) == ["written"]
    assert names(tmp_path) == {"mine", "read lately", "used again"}


def test_what_was_never_finished_goes_by_its_own_age(tmp_path: Path) -> None:
    kept(tmp_path, "mine", 0)
    left = tmp_path / "left"
    left.mkdir()
    (left / "part").write_bytes(bytes(10))
    os.utime(left, (0, 0))
    assert drop_unused(tmp_path, keep=tmp_path / "mine", limit=500) == ["left"]
