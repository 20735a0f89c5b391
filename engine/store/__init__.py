"""Where runs live: one folder for each finished run, a live folder for each unfinished one, and an index of both."""

from fovea.engine.store.store import Store

__all__ = ["Store"]
