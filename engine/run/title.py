"""What people call a run."""

from __future__ import annotations

import contextlib

from fovea.engine.errors import FoveaError
from fovea.engine.method import find_method
from fovea.engine.run.record import RunRecord


def run_title(record: RunRecord) -> str:
    """The name that the user gave, or the method's title and the photo or data set."""
    if record.name:
        return record.name
    title = record.method
    with contextlib.suppress(FoveaError):  # a run of a method that is not here is called by the method's name
        title = " · ".join([find_method(record.method).title, *([record.subject] if record.subject else [])])
    return title
