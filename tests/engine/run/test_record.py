"""Records: they survive JSON, whatever a method tells."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from fovea.engine.run.record import RunRecord, plain


def test_plain_makes_json() -> None:
    value = {"a": np.float32(1.5), "b": np.arange(2), "c": (1, np.nan), "d": Path("x"), "e": np.bool_(True)}
    assert json.loads(json.dumps(plain(value))) == {"a": 1.5, "b": [0, 1], "c": [1, None], "d": "x", "e": True}


def test_a_record_survives_json() -> None:
    record = RunRecord.model_validate({"id": "x", "method": "count", "network": {"name": "fake"}, "new": 1})
    assert RunRecord.model_validate_json(record.to_json()) == record
