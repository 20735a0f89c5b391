"""Progress: parts of a run tell within their span, under their heading."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fovea.engine.progress import SILENT, Progress


def test_a_part_of_a_part_tells_within_its_span() -> None:
    heard: list[tuple[float, str, Any, Any]] = []
    progress = Progress(lambda *what: heard.append(what))  # type: ignore[arg-type]
    picture = np.zeros((2, 2, 3), np.uint8)
    part = progress.span(0.2, 0.6).span(0.5, 1.0)
    part(0.0, "begun")
    part.under("cat")(1.0, "ended", picture, {"loss": 1.0})
    part.under("cat").saying("drawing").span(0.5, 1.0)(0.0, "unheard", picture, {"loss": 1.0})
    assert [fraction for fraction, *_ in heard] == pytest.approx([0.4, 0.6, 0.5])
    assert [message for _, message, *_ in heard] == ["begun", "cat: ended", "cat: drawing"]
    assert heard[1][2] is picture
    assert heard[2][2:] == (None, None), "pictures of a part that says one thing are its own affair"


def test_nobody_need_listen() -> None:
    SILENT.span(0.1, 0.2).under("a").saying("b")(0.5, "c")
