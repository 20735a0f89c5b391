"""Which device a run takes, as torch tells, and what is said where a device lacks something."""

from __future__ import annotations

import json

import pytest
import torch

from fovea.engine.errors import ProviderError
from fovea.engine.run.machine import device_limit, remembered_device, resolve_device
from fovea.models.home import home


@pytest.mark.parametrize(
    ("cuda", "mps", "fastest"),
    [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
@pytest.mark.usefixtures("own_home")
def test_auto_takes_cuda_then_mps_then_the_cpu(
    cuda: bool, mps: bool, fastest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert remembered_device("auto") is None
    assert resolve_device("auto") == fastest
    assert remembered_device("auto") == fastest
    for device, there in (("cuda", cuda), ("mps", mps)):
        assert remembered_device(device) == device
        if there:
            assert resolve_device(device) == device
        else:
            with pytest.raises(ProviderError, match=f"device {device} was asked for, and torch finds no"):
                resolve_device(device)


@pytest.mark.usefixtures("own_home")
def test_what_an_earlier_version_remembered_is_asked_anew() -> None:
    (home() / "machine.json").write_text(json.dumps({"cuda": False, "host": "elsewhere"}))
    assert remembered_device("auto") is None


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            NotImplementedError(
                "The operator 'aten::_linalg_svd.U' is not currently implemented for the MPS device. If you want this "
                "op to be considered for addition please comment on …\nWARNING: this will be slower"
            ),
            "device mps has no aten::_linalg_svd.U, which this needs: use --device cpu",
        ),
        (
            TypeError(
                "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64. "
                "Please use float32 instead."
            ),
            "device mps has no numbers of 64 bits, which this needs: use --device cpu",
        ),
    ],
)
def test_what_mps_lacks_is_one_line(error: Exception, line: str) -> None:
    assert str(device_limit("mps", error)) == line
    assert device_limit("cpu", error) is None
    assert device_limit("mps", RuntimeError("shapes do not match")) is None
