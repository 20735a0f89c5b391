"""Checkpoints of every kind that is found in the wild, and the one line for each that cannot be taken."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from fovea.models import fitting, weights
from fovea.models.checkpoint import Checkpoint, Leaf, read_checkpoint
from fovea.models.errors import WeightsError


class Net(nn.Module):
    def __init__(self, num_classes: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, num_classes)


class Trap:
    def __reduce__(self) -> Any:
        return print, ("this must never be printed",)


def state(num_classes: int = 3) -> dict[str, torch.Tensor]:
    return Net(num_classes).state_dict()


def plain(tensors: dict[str, torch.Tensor]) -> Checkpoint:
    return Checkpoint("w.pt", tuple(Leaf((name,), value) for name, value in tensors.items()), tuple(tensors))


def prefixed(prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + k: v for k, v in state().items()}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (state, ""),
        (lambda: prefixed("module."), "'module.'"),
        (lambda: prefixed("_orig_mod.module."), "'_orig_mod.module.'"),
        (lambda: prefixed("backbone."), "'backbone.'"),
        (lambda: {"epoch": 3, "state_dict": prefixed("model.")}, "'state_dict'"),
        (lambda: {"model": state(), "ema": {k: v + 1 for k, v in state().items()}}, "'ema'"),
        (lambda: {"model_ema": {"state_dict": state()}}, "'model_ema.state_dict'"),
    ],
    ids=["plain", "ddp", "compiled", "backbone", "lightning", "average first", "nested"],
)
def test_wrappers_are_taken_off_and_told(tmp_path: Path, content: Callable[[], Any], told: str) -> None:
    path = tmp_path / "w.pt"
    torch.save(content(), path)
    loaded = fitting.load_into(Net, {}, read_checkpoint(path), "net")
    assert set(loaded.module.state_dict()) == set(state())
    assert told in " ".join(loaded.notes)


def test_half_precision_becomes_float32(tmp_path: Path) -> None:
    save_file({k: v.half() if v.is_floating_point() else v for k, v in state().items()}, tmp_path / "w.safetensors")
    read = read_checkpoint(tmp_path / "w.safetensors")
    assert {leaf.name: leaf.tensor.dtype for leaf in read.leaves}["conv.weight"] == torch.float32
    assert "float16" in read.notes[0]


def test_a_head_of_another_size(tmp_path: Path) -> None:
    loaded = fitting.load_into(Net, {}, plain(state(7)), "net")
    assert loaded.module.fc.out_features == 7  # type: ignore[union-attr]
    assert loaded.notes == ("The checkpoint has 7 classes.",)


def test_another_architecture_names_the_first_keys() -> None:
    wrong = {"stem.weight": torch.zeros(1), **{k: v for k, v in state().items() if not k.startswith("conv")}}
    with pytest.raises(WeightsError) as caught:
        fitting.load_into(Net, {}, plain(wrong), "net")
    assert "2 missing of its 9 tensors (the first is conv.weight) and 1 unexpected (the first is stem.weight)" in str(
        caught.value
    )


def test_another_shape() -> None:
    wrong = {**state(), "conv.weight": torch.zeros(4, 3, 5, 5)}
    with pytest.raises(WeightsError, match=r"conv\.weight has shape \(4, 3, 5, 5\), but it must have \(4, 3, 3, 3\)"):
        fitting.load_into(Net, {}, plain(wrong), "net")


def pickled(value: Any) -> bytes:
    return pickle.dumps(value)


def saved(value: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("w.pt", lambda: pickled(Trap()), "a pickle that would run code"),
        ("w.pt", lambda: saved({"a": Trap()}), "a pickle that would run code"),
        ("w.pt", lambda: b"these are no weights\n", "holds no weights"),
        ("w.pt", lambda: saved(state())[:900], "damaged, or torch did not save it"),
        ("w.pt", lambda: saved([1, 2]), "holds a list"),
        ("w.pt", lambda: saved({"epoch": 1}), "holds no tensors"),
        ("w.pt", lambda: b"", "is empty"),
        ("w.safetensors", lambda: b"\x10\x00\x00\x00\x00\x00\x00\x00{}", "cannot be read as safetensors"),
        ("w.safetensors", lambda: b"text", "cannot be read as safetensors"),
    ],
)
def test_files_that_are_refused(
    tmp_path: Path, name: str, content: Callable[[], bytes], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    path.write_bytes(content())
    with pytest.raises(WeightsError) as caught:
        read_checkpoint(path)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capsys.readouterr().out == ""


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no file of weights at"):
        read_checkpoint(tmp_path / "none.pt")


def test_fingerprint_knows_values_and_names() -> None:
    torch.manual_seed(0)
    one, two = Net(), Net()
    assert weights.fingerprint(one) != weights.fingerprint(two)
    two.load_state_dict(one.state_dict())
    assert weights.fingerprint(one) == weights.fingerprint(two)


class Response(io.BytesIO):
    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.headers = {"Content-Length": str(len(content))}


def test_a_download_is_checked_by_its_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: Response(b"abcd"))
    with pytest.raises(WeightsError, match="arrived damaged"):
        weights.download("https://example.org/net-00000000.pth")
    assert not list((tmp_path / "checkpoints").iterdir())
    path = weights.download("https://example.org/net-88d4266f.pth")
    assert path.read_bytes() == b"abcd"
