"""Sessions on every provider: which work here, and what one that does not work says."""

from __future__ import annotations

import pytest

from fovea.models.errors import ProviderError
from fovea.models.graph import sessions
from fovea.models.graph.providers import PROVIDERS
from fovea.models.graph.sessions import Session, check_providers


def test_providers() -> None:
    rows = {row["name"]: row for row in check_providers()}
    assert list(rows) == ["cpu", "cuda", "tensorrt"]
    assert rows["cpu"] == {"name": "cpu", "works": True, "reason": ""}
    for row in rows.values():
        assert row["works"] or row["reason"]
        assert "\n" not in row["reason"]


def test_a_provider_that_does_not_work_says_why(capfd: pytest.CaptureFixture[str]) -> None:
    model = sessions._small_convolution()
    for row in check_providers():
        if row["works"]:
            assert Session(model, row["name"]).provider == row["name"]
        else:
            with pytest.raises(ProviderError, match=f"provider {row['name']} does not work here"):
                Session(model, row["name"])
    with pytest.raises(ProviderError, match="no provider named 'gpu'"):
        Session(model, "gpu")
    assert Session(model, "auto").provider in PROVIDERS
    assert capfd.readouterr().err == ""
