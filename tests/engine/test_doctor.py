"""Doctor: what it says is what it tried."""

from __future__ import annotations

import json
from pathlib import Path

from fovea.engine.doctor import diagnose, report


def test_doctor_says_what_really_works(own_home: Path, capfd) -> None:  # type: ignore[no-untyped-def]
    found = diagnose()
    assert json.loads(json.dumps(found)) == found
    assert found["devices"][0]["device"] == "cpu"
    assert found["devices"][0]["works"]
    providers = {one["name"]: one for one in found["providers"]}
    assert providers["cpu"]["works"]
    assert set(providers) == {"cpu", "cuda", "tensorrt"}
    assert all(one["works"] or one["reason"] for one in providers.values())
    assert {"fovea", "python", "torch", "numpy"} <= set(found["versions"])
    assert found["home"]["folder"] == str(own_home)
    assert [one["alive"] for one in found["workers"]] == [False, False]
    assert capfd.readouterr() == ("", ""), "no native error text reaches the user"
    text = report(found)
    assert "providers (ONNX Runtime)" in text
    assert str(own_home) in text
