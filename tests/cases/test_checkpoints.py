"""Checkpoints as training scripts leave them: whatever wraps the weights, the network answers as the trained one."""

from __future__ import annotations

import argparse
import collections
import dataclasses
import datetime
import enum
import http
import io
import logging
import pathlib
import pickle
import types
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fovea.models import fitting
from fovea.models.checkpoint import read_checkpoint
from fovea.models.errors import WeightsError
from fovea.models.network import Network
from tests.cases.conftest import agrees, answer
from tests.cases.nets import Small, small

State = dict[str, Tensor]


@dataclasses.dataclass
class Config:
    """A class of the training script's."""

    depth: int = 3
    name: str = "run"


class Phase(enum.Enum):
    TRAIN = 1


class Attributes(dict):  # type: ignore[type-arg]
    """A mapping with attributes, as configuration packages have."""

    __getattr__ = dict.__getitem__


class Counted:
    """An object that is put together again by a call of its class."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __reduce__(self) -> Any:
        return Counted, (self.value,)


class Trainer:
    """An object of the script's that holds the weights."""

    def __init__(self, state: State) -> None:
        self.best = state


def pre(state: State, prefix: str) -> State:
    return {prefix + key: value for key, value in state.items()}


def zeros(state: State) -> State:
    return {key: torch.zeros_like(value) for key, value in state.items()}


def optimiser() -> dict[str, Any]:
    net = small()
    optim = torch.optim.Adam(net.parameters())
    net(torch.randn(2, 3, 16, 16)).sum().backward()
    optim.step()
    return optim.state_dict()


def averaged(state: State) -> State:
    model = torch.optim.swa_utils.AveragedModel(small())
    model.update_parameters(small())
    return dict(model.state_dict())


def parallel_inside(state: State) -> State:
    return {key.replace("layer1.", "layer1.module."): value for key, value in state.items()}


WRAPPED: dict[str, Callable[[State], Any]] = {
    "plain": lambda s: s,
    "accuracy": lambda s: {"epoch": 3, "state_dict": s, "best_acc1": torch.tensor(71.5), "loss": torch.rand(1)},
    "accuracy beside": lambda s: {**s, "best_acc1": torch.tensor(71.5), "epoch": torch.tensor(3)},
    "random state": lambda s: {"rng": torch.get_rng_state(), "model": s, "step": np.int64(3)},
    "optimiser first": lambda s: {"optimizer": optimiser(), "weights_of_it": s},
    "a key of its own": lambda s: {"net_state_dict": s},
    "deep": lambda s: {"run": {"stages": [{"epoch": 1}, {"nets": {"g": pre(s, "module.")}}]}},
    "a tuple": lambda s: (s, 17, "resnet"),
    "an attribute": lambda s: {"state_dict": pre(s, "resnet.")},
    "many prefixes": lambda s: {"state_dict": pre(s, "module._orig_mod.pl_model.encoder.")},
    "averaged model": averaged,
    "parallel inside": parallel_inside,
    "compiled inside": lambda s: {k.replace("layer1.0.", "layer1.0._orig_mod."): v for k, v in s.items()},
    "teacher": lambda s: {"student": pre(zeros(s), "module.backbone."), "teacher": pre(s, "backbone.")},
    "ema attribute": lambda s: {"state_dict": {**pre(zeros(s), "model."), **pre(s, "model_ema.module.")}},
    "ema object": lambda s: {"model": zeros(s), "ema_state": {"shadow": s, "decay": 0.99}},
    "nested modules": lambda s: {"conv1": {k[6:]: v for k, v in s.items() if k.startswith("conv1.")},
                                 "bn1": {k[4:]: v for k, v in s.items() if k.startswith("bn1.")},
                                 "layer1": {k[7:]: v for k, v in s.items() if k.startswith("layer1.")},
                                 "fc": {k[3:]: v for k, v in s.items() if k.startswith("fc.")}},
    "training head": lambda s: {"model": {**s, "aux.weight": torch.rand(2, 2), "projector.0.bias": torch.rand(3)}},
    "exp_avg by name": lambda s: {"optimizer": {"exp_avg": zeros(s)}, "it": s},
    "namespace": lambda s: {"args": argparse.Namespace(lr=0.1, out=pathlib.Path("/tmp/x")), "state_dict": s},
    "numbers of NumPy": lambda s: {"acc": np.float64(0.5), "curve": np.arange(3.0), "model": s},
    "default dict": lambda s: {"log": collections.defaultdict(list, {"loss": [1.0]}), "model": s},
    "weights in a default dict": lambda s: {"model": collections.defaultdict(int, s)},
    "counter": lambda s: {"seen": collections.Counter("abca"), "names": collections.deque(["a"]), "model": s},
    "dates": lambda s: {"at": datetime.datetime(2026, 1, 2), "took": datetime.timedelta(1), "model": s},
    "paths": lambda s: {"posix": pathlib.PurePosixPath("/a"), "win": pathlib.PureWindowsPath("c:/a"), "model": s},
    "enumerations": lambda s: {"status": http.HTTPStatus.OK, "phase": Phase.TRAIN, "model": s},
    "sets and ranges": lambda s: {"a": {1, 2}, "b": frozenset("ab"), "c": range(3), "d": slice(1), "model": s},
    "simple namespace": lambda s: {"cfg": types.SimpleNamespace(a=1), "log": logging.getLogger("x"), "model": s},
    "partial": lambda s: {"norm": partial(nn.BatchNorm2d, eps=1e-3), "act": nn.functional.relu, "model": s},
    "dataclass": lambda s: {"config": Config(), "model": s},
    "mapping of a class": lambda s: {"cfg": Attributes(lr=1), "model": s},
    "weights in it": lambda s: Attributes(model=Attributes(s)),
    "made by a call": lambda s: {"counted": Counted(3), "model": s},
    "an object's attribute": lambda s: {"trainer": Trainer(s)},
    "optimiser object": lambda s: {"optim": torch.optim.SGD([torch.zeros(2, requires_grad=True)], 0.1), "model": s},
    "arrays of NumPy": lambda s: {"model": {k: v.numpy() for k, v in s.items()}, "cfg": Config()},
    "parameters": lambda s: {"model": {k: nn.Parameter(v) if v.is_floating_point() else v for k, v in s.items()}},
    "views": lambda s: {"c": Config(), "m": {k: v.t().contiguous().t() if v.dim() == 2 else v for k, v in s.items()}},
}  # fmt: skip


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("kind", WRAPPED)
def test_whatever_wraps_the_weights(kind: str, legacy: bool, tmp_path: Path, truth: Tensor) -> None:
    path = tmp_path / "w.pth"
    torch.save(WRAPPED[kind](dict(small().state_dict())), path, _use_new_zipfile_serialization=not legacy)
    module = fitting.load_into(Small, {}, read_checkpoint(path), "net").module
    assert torch.allclose(answer(module), truth, atol=1e-6)


@pytest.mark.parametrize("protocol", [0, 1, 2, 4, 5])
@pytest.mark.parametrize("kind", ["plain", "namespace", "dataclass", "enumerations", "arrays of NumPy"])
def test_every_protocol_of_a_plain_pickle(kind: str, protocol: int, tmp_path: Path, truth: Tensor) -> None:
    path = tmp_path / "w.pkl"
    path.write_bytes(pickle.dumps(WRAPPED[kind](dict(small().state_dict())), protocol))
    if protocol < 2:
        with pytest.raises(WeightsError, match="holds no weights"):
            read_checkpoint(path)
        return
    module = fitting.load_into(Small, {}, read_checkpoint(path), "net").module
    assert torch.allclose(answer(module), truth, atol=1e-6)


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_newer_protocols_in_torchs_formats(protocol: int, tmp_path: Path, truth: Tensor) -> None:
    path = tmp_path / "w.pth"
    torch.save({"cfg": Config(), "model": small().state_dict()}, path, pickle_protocol=protocol)
    assert torch.allclose(answer(fitting.load_into(Small, {}, read_checkpoint(path), "net").module), truth)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("beside", [None, Config()])
def test_half_precision_is_told(dtype: torch.dtype, beside: Any, tmp_path: Path) -> None:
    state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in small().state_dict().items()}
    torch.save({"model": state, "config": beside}, tmp_path / "w.pth")
    loaded = fitting.load_into(Small, {}, read_checkpoint(tmp_path / "w.pth"), "net")
    assert str(dtype).removeprefix("torch.") in loaded.notes[0]
    assert loaded.module.state_dict()["fc.weight"].equal(state["fc.weight"].float())


class Wrapper(nn.Module):
    """A network that lies inside of another module."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Small()

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.backbone(x)
        return scores


@pytest.mark.parametrize("prefix", ["", "backbone.", "module.", "module.backbone."])
def test_names_without_the_prefix_that_the_network_has(prefix: str, tmp_path: Path, truth: Tensor) -> None:
    torch.save({"model": pre(dict(small().state_dict()), prefix)}, tmp_path / "w.pth")
    loaded = fitting.load_into(Wrapper, {}, read_checkpoint(tmp_path / "w.pth"), "net")
    assert torch.allclose(answer(loaded.module), truth)


def test_of_several_sets_one_is_taken_and_told_and_the_key_takes_another(tmp_path: Path, truth: Tensor) -> None:
    other = dict(small(7).state_dict())
    torch.save({"student": other, "teacher": small().state_dict(), "best": zeros(other)}, tmp_path / "w.pth")
    checkpoint = read_checkpoint(tmp_path / "w.pth")
    loaded = fitting.load_into(Small, {}, checkpoint, "net")
    assert torch.allclose(answer(loaded.module), truth)
    assert "teacher was taken; --weights-key takes another (student, best)" in " ".join(loaded.notes)
    chosen = fitting.load_into(Small, {}, checkpoint, "net", key="student")
    assert torch.allclose(answer(chosen.module), answer(small(7)))
    assert "Several" not in " ".join(chosen.notes)
    with pytest.raises(WeightsError, match="has no entry 'nobody' with weights: it has student, teacher, best"):
        fitting.load_into(Small, {}, checkpoint, "net", key="nobody")


def test_the_same_set_under_two_keys_is_no_choice(tmp_path: Path) -> None:
    state = dict(small().state_dict())
    torch.save({"model": state, "state_dict": state, "epoch": 3}, tmp_path / "w.pth")
    notes = fitting.load_into(Small, {}, read_checkpoint(tmp_path / "w.pth"), "net").notes
    assert "Several" not in " ".join(notes)
    assert "epoch" in notes[-1]


def test_what_is_left_over_is_told(tmp_path: Path) -> None:
    torch.save({"model": {**small().state_dict(), "aux.weight": torch.rand(2, 2)}, "epoch": 3}, tmp_path / "w.pth")
    notes = " ".join(fitting.load_into(Small, {}, read_checkpoint(tmp_path / "w.pth"), "net").notes)
    assert "1 tensor was left over, because the network has no place for it: aux.weight." in notes
    assert "Left out of the checkpoint, beside the weights: epoch." in notes


@pytest.mark.parametrize(
    ("extra", "line"),
    [("layer1.4.weight", "1 unexpected"), ("conv2.weight", "1 unexpected"), ("layer2.0.weight", "1 unexpected")],
)
def test_a_deeper_networks_weights_are_refused(extra: str, line: str, tmp_path: Path) -> None:
    torch.save({**small().state_dict(), extra: torch.rand(8, 8, 3, 3)}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=line):
        fitting.load_into(Small, {}, read_checkpoint(tmp_path / "w.pth"), "net")


def test_another_head_in_a_wrapper(tmp_path: Path) -> None:
    torch.save({"state_dict": pre(dict(small(1, 9).state_dict()), "net.")}, tmp_path / "w.pth")
    loaded = fitting.load_into(Small, {}, read_checkpoint(tmp_path / "w.pth"), "net")
    assert torch.allclose(answer(loaded.module), answer(small(1, 9)))
    assert "The checkpoint has 9 classes." in loaded.notes


# --- TorchScript, whole modules ------------------------------------------------------------------------------


def scripted(path: Path, trace: bool) -> None:
    net = small()
    script = torch.jit.trace(net, torch.zeros(1, 3, 16, 16)) if trace else torch.jit.script(net)
    torch.jit.save(script, str(path))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("trace", [True, False])
def test_weights_are_taken_out_of_torchscript(trace: bool, tmp_path: Path, truth: Tensor) -> None:
    scripted(tmp_path / "script.pt", trace)
    loaded = fitting.load_into(Small, {}, read_checkpoint(tmp_path / "script.pt"), "net")
    assert torch.allclose(answer(loaded.module), truth, atol=1e-6)
    assert "TorchScript" in loaded.notes[0]


@pytest.mark.parametrize("wrap", [lambda m: m, lambda m: {"epoch": 1, "model": m}, lambda m: nn.DataParallel(m)])
def test_a_whole_module_needs_trust(wrap: Any, tmp_path: Path, truth: Tensor) -> None:
    torch.save(wrap(small()), tmp_path / "w.pth")
    checkpoint = read_checkpoint(tmp_path / "w.pth")
    with pytest.raises(WeightsError) as caught:
        fitting.load_into(Small, {}, checkpoint, "net")
    assert "is a whole pickled module (" in str(caught.value)
    assert "--trust" in str(caught.value)
    assert torch.allclose(answer(fitting.load_into(Small, {}, checkpoint, "net", trust=True).module), truth)


def test_plain_weights_beside_a_whole_module_need_none(tmp_path: Path, truth: Tensor) -> None:
    torch.save({"net": small(3), "state_dict": small().state_dict()}, tmp_path / "w.pth")
    loaded = fitting.load_into(Small, {}, read_checkpoint(tmp_path / "w.pth"), "net")
    assert torch.allclose(answer(loaded.module), truth)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["torchscript", "export", "module"])
def test_a_file_that_brings_its_network(
    kind: str, bring: Callable[..., Network], tmp_path: Path, truth: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / ("net.pt2" if kind == "export" else "net.pt")
    if kind == "torchscript":
        scripted(path, True)
    elif kind == "export":
        batch = {0: torch.export.Dim("batch", min=1)}
        torch.export.save(torch.export.export(small(), (torch.zeros(2, 3, 16, 16),), dynamic_shapes=(batch,)), path)
    else:
        torch.save({"model": small()}, path)
    with pytest.raises(WeightsError, match="Say --trust if you trust whoever made it"):
        bring(architecture=f"torch:{path}")
    network = bring(architecture=f"torch:{path}", trust=True)
    assert agrees(network, truth)
    assert not network.card.random
    assert ("inner layers cannot be looked at" in " ".join(network.card.notes)) == (kind != "module")
    x = torch.zeros(1, 3, 16, 16, requires_grad=True)
    network.module()(x)[0, 0].backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0


# --- what is refused -----------------------------------------------------------------------------------------


class Called:
    """Pickles as a call of `function`."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> Any:
        return self.call


def ran() -> Path:
    return Path("hostile-ran")


def hostile() -> dict[str, Any]:
    import functools
    import importlib
    import operator
    import os
    import runpy
    import shutil
    import subprocess
    import typing

    touch = "open('hostile-ran', 'w')"
    return {
        "os.system": Called(os.system, "touch hostile-ran"),
        "eval": Called(eval, touch),
        "exec": Called(exec, touch),
        "getattr": Called(getattr, "a", "upper"),
        "open": Called(open, "hostile-ran", "w"),
        "print": Called(print, "hostile-ran"),
        "subprocess": Called(subprocess.Popen, ["touch", "hostile-ran"]),
        "check_output": Called(subprocess.check_output, ["touch", "hostile-ran"]),
        "runpy": Called(runpy.run_path, "x.py"),
        "import": Called(importlib.import_module, "antigravity"),
        "rmtree": Called(shutil.rmtree, "hostile-ran"),
        "reduce": Called(functools.reduce, print, [1, 2]),
        "partial called": Called(functools.partial(os.system, "touch hostile-ran")),
        "attrgetter": Called(operator.attrgetter("x"), "y"),
        "type hints": Called(typing.get_type_hints, int),
        "a function of torch's": Called(torch.hub.load, "a/b", "c"),
        "a function of the user's": Called(scripted, "x", True),
        "torch.load": Called(torch.load, "x"),
        "numpy.load": Called(np.load, "x"),
    }


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", hostile())
def test_a_pickle_that_runs_code_is_refused_and_does_not_run(
    name: str, legacy: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    content = {"state_dict": small().state_dict(), "extra": hostile()[name]}
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(WeightsError) as caught:
        read_checkpoint(tmp_path / "w.pth")
    assert "is a pickle that would run code (" in str(caught.value)
    assert "none of which was run" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not ran().exists()
    assert capsys.readouterr().out == ""


def test_a_refusal_names_what_it_found(tmp_path: Path) -> None:
    import os

    torch.save({"args": argparse.Namespace(), "cfg": Config(), "x": Called(os.system, "true")}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"\((posix|nt)\.system\)"):
        read_checkpoint(tmp_path / "w.pth")


def opcodes(body: bytes) -> bytes:
    return b"\x80\x02" + body + b"."


@pytest.mark.parametrize(
    "body",
    [
        b"cos\nsystem\n(S'touch hostile-ran'\ntR",
        b"(S'touch hostile-ran'\nios\nsystem\n",
        b"(cos\nsystem\nS'touch hostile-ran'\no",
        b'c__builtin__\neval\n(S\'open("hostile-ran","w")\'\ntR',
        b"\x82\x01",  # an extension
        b"ctorch._utils\n_rebuild_tensor_v2\n(NK\x00))NNtR",
        b"ctorch._tensor\n_rebuild_from_type_v2\n(cos\nsystem\ncx\nT\n(S'touch hostile-ran'\nt}tR",
        b"ccollections\nOrderedDict\n}(X\x08\x00\x00\x00__call__cos\nsystem\nub",
        b"]" * 3000 + b"a" * 2999,
        b"(" * 100,
        b"K\x01K\x01K\x02s",
    ],
)
def test_opcodes_written_by_hand_do_nothing(body: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.pt").write_bytes(opcodes(body))
    with pytest.raises(WeightsError) as caught:
        read_checkpoint(tmp_path / "w.pt")
    assert "\n" not in str(caught.value)
    assert not ran().exists()


def test_a_users_class_is_never_imported(tmp_path: Path) -> None:
    import sys

    module = types.ModuleType("their_trainer")
    module.__dict__["Config"] = type("Config", (), {"__module__": "their_trainer"})
    sys.modules["their_trainer"] = module
    try:
        torch.save({"config": module.Config(), "model": small().state_dict()}, tmp_path / "w.pth")
    finally:
        del sys.modules["their_trainer"]
    (tmp_path / "their_trainer.py").write_text("raise SystemExit('imported')")
    sys.path.insert(0, str(tmp_path))
    try:
        read_checkpoint(tmp_path / "w.pth")
    finally:
        sys.path.remove(str(tmp_path))
    assert "their_trainer" not in sys.modules


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n", "is a Git LFS pointer"),
        (b"<!DOCTYPE html><html>", "is a web page"),
        (b"\n<html><body>", "is a web page"),
        (b"\x89HDF\r\n\x1a\n", "is an HDF5 file"),
        (b"\x1f\x8b\x08\0", "is compressed with gzip"),
        (b"\x93NUMPY\x01\0", "is a NumPy array"),
    ],
)
@pytest.mark.parametrize("name", ["w.pth", "w.bin", "w.safetensors"])
def test_what_lies_under_the_name_of_weights(content: bytes, line: str, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=line):
        read_checkpoint(tmp_path / name)


def test_zip_files_of_other_things(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w.pth", "w") as archive:
        archive.writestr("folder/notes.txt", "no weights")
    with pytest.raises(WeightsError, match=r"is a zip file of other things \(such as folder/notes\.txt\)"):
        read_checkpoint(tmp_path / "w.pth")
    np.savez(tmp_path / "w.npz", a=np.zeros(3))
    with pytest.raises(WeightsError, match="is a NumPy archive"):
        read_checkpoint(tmp_path / "w.npz")


@pytest.mark.parametrize("cut", [40, 400, 3000, -8])
@pytest.mark.parametrize("legacy", [False, True])
def test_a_file_that_ends_too_early(cut: int, legacy: bool, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    content = {"cfg": Config(), "model": small().state_dict()}
    torch.save(content, buffer, _use_new_zipfile_serialization=not legacy)
    (tmp_path / "w.pth").write_bytes(buffer.getvalue()[:cut])
    with pytest.raises(WeightsError, match="is damaged, or torch did not save it"):
        read_checkpoint(tmp_path / "w.pth")


def test_safetensors_under_another_name(tmp_path: Path, truth: Tensor) -> None:
    from safetensors.torch import save_file

    save_file(dict(small().state_dict()), tmp_path / "pytorch_model.bin")
    loaded = fitting.load_into(Small, {}, read_checkpoint(tmp_path / "pytorch_model.bin"), "net")
    assert torch.allclose(answer(loaded.module), truth)
