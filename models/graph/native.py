"""What native libraries print is caught here, and the lock under which they may print."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator

build_lock = threading.Lock()
"""Held by whoever catches native output: the process's own stdout and stderr are replaced meanwhile."""


@contextlib.contextmanager
def quiet_python() -> Iterator[None]:
    with open(os.devnull, "w") as sink, contextlib.redirect_stdout(sink):
        yield


@contextlib.contextmanager
def native_output(*descriptors: int) -> Iterator[Callable[[], str]]:
    """What native code writes to the process's `descriptors` goes to a file; yields a function that reads it."""
    with tempfile.TemporaryFile() as sink:

        def said() -> str:
            sink.seek(0)
            return sink.read().decode(errors="replace")

        sys.stdout.flush()
        sys.stderr.flush()
        saved = [os.dup(descriptor) for descriptor in descriptors]
        for descriptor in descriptors:
            os.dup2(sink.fileno(), descriptor)
        try:
            yield said
        finally:
            for descriptor, copy in zip(descriptors, saved, strict=True):
                os.dup2(copy, descriptor)
                os.close(copy)
