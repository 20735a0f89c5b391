"""What a mining run keeps while it runs, so that a killed one loses little: each shard's part in a file."""

from __future__ import annotations

from pathlib import Path

from fovea.engine.look.mining.merge import Partial, from_bytes, merge, to_bytes
from fovea.models.home import write_whole

LOOSE = 16
"""So many shards' parts lie in files of their own before they are put together in one."""


class Checkpoints:
    """The parts of one request in a folder; without a folder nothing is kept.

    `signature` says what a part must have been made of to be of use: parts with another one are not read.
    """

    def __init__(self, folder: Path | None, signature: str) -> None:
        self.folder, self.signature = folder, signature

    def read(self) -> Partial | None:
        """What earlier tries of this request have left, put together; a damaged file is as good as none."""
        if self.folder is None:
            return None
        files = sorted(self.folder.glob("shard*.npz"))
        read = [from_bytes(file.read_bytes(), self.signature) for file in files]
        parts = [part for part in read if part is not None]
        return merge(parts) if parts else None

    def write(self, part: Partial, done: Partial) -> None:
        """Keep a shard's part in a file of its own, written whole; now and then all that is `done` in one.

        A shard that is in both, because the process was killed in between, counts once.
        """
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self.folder / f"shard-{part.shards[0]:08d}.npz", to_bytes(part, self.signature))
        if len(done.shards) % LOOSE == 0:
            loose = list(self.folder.glob("shard-*.npz"))
            write_whole(self.folder / "shards.npz", to_bytes(done, self.signature))
            for file in loose:
                file.unlink()
