"""Networks without an ONNX graph: every method that only looks gives from torch what it gives from a graph."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from fovea.engine.run.execute import execute
from fovea.engine.run.record import Request, RunRecord
from fovea.engine.store import Store
from fovea.models import registry, zoo
from fovea.models.builders import Built, finish
from fovea.models.card import Preprocessing
from fovea.models.errors import NetworkError
from fovea.models.graph import export
from fovea.models.network import TorchNetwork
from tests.cases.odd_nets import NOT_EXPORTED, Odd, pooled, seeded, shifted

CODE = """
from torch import nn
import torch.nn.functional as F


class Net(nn.Module):
    def __init__(self, norm=False):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 8, 3, stride=2)
        self.act, self.fc = nn.ReLU(), nn.Linear(8, 5)
        self.norm = norm

    def forward(self, x):
        x = self.act(self.conv2(F.relu(self.conv1(x)))).mean((2, 3))
        return self.fc(F.rms_norm(x, (8,)) if self.norm else x)
"""
METHODS: dict[str, tuple[dict[str, Any], bool]] = {
    "classify": ({}, True),
    "occlusion": ({"window": 8, "stride": 8}, True),
    "activations": ({"layer": "conv2"}, True),
    "filters": ({"layer": "conv1"}, False),
    "patches": ({"dataset": "sample", "layers": ["conv2", "fc"], "top": 4}, False),
    "neighbors": ({"dataset": "sample"}, True),
    "features": ({"dataset": "sample", "layer": "conv2"}, False),
    "units": ({"dataset": "sample", "layer": "conv2"}, False),
}


def brought(module: nn.Module) -> TorchNetwork:
    preprocessing = Preprocessing(size=(16, 16), resize=16)
    return finish("mine", Built(module, "mine", "tests", preprocessing, (), "w.pth"), None)


def register(folder: Path, **arguments: Any) -> None:
    (folder / "net.py").write_text(CODE)
    registry.register("mine", architecture=f"{folder / 'net.py'}:Net", input={"size": 32, "resize": 32}, **arguments)


def ran(method: str, home: Path) -> tuple[RunRecord, dict[str, Any], dict[str, pd.DataFrame]]:
    options, photo = METHODS[method]
    store = Store(home)
    request = Request(method=method, network="mine", image="sample:cat" if photo else None, options=options)
    record = execute(request.model_copy(update={"provider": "cpu", "device": "cpu"}), store, fresh=True)
    assert record.status == "done", record.error
    run = store.run(record.id)
    return record, {n: run.array(n) for n in run.arrays}, {n: run.table(n) for n in run.tables}


@pytest.mark.parametrize("method", METHODS)
def test_torch_answers_as_the_graph_does(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = []
    for way in ("graph", "torch"):
        monkeypatch.setenv("FOVEA_HOME", str(tmp_path / way))
        zoo.forget()
        if way == "torch":

            def refuse(*_: Any) -> None:
                raise NetworkError("it cannot be exported to ONNX (a test says so)")

            monkeypatch.setattr(export, "export", refuse)
        register(tmp_path)
        answers.append(ran(method, tmp_path / way))
    zoo.forget()
    (by_graph, arrays, tables), (by_torch, arrays_of_torch, tables_of_torch) = answers
    assert not any("PyTorch" in warning for warning in by_graph.warnings)
    if method != "filters":  # which only reads weights
        assert any("PyTorch, which is slower, because it cannot" in warning for warning in by_torch.warnings)
        assert by_torch.provider == "torch"
    assert sorted(arrays) == sorted(arrays_of_torch)
    for name, values in arrays.items():
        np.testing.assert_allclose(arrays_of_torch[name], values, atol=1e-4, rtol=1e-4, err_msg=name)
    for name, table in tables.items():
        other = tables_of_torch[name]
        assert list(table.columns) == list(other.columns)
        for column in table.columns:
            if column in ("x", "y") and method == "features":
                continue  # a map by t-SNE: what is last in a digit moves its points
            if pd.api.types.is_float_dtype(table[column]):
                np.testing.assert_allclose(other[column], table[column], atol=1e-4, rtol=1e-3, err_msg=column)
            elif column in ("class", "layer", "unit", "image", "rank"):
                assert list(other[column]) == list(table[column])


@pytest.mark.parametrize("make", NOT_EXPORTED.values(), ids=NOT_EXPORTED)
@pytest.mark.usefixtures("own_home")
def test_what_cannot_be_exported_is_told_in_a_line(make: Callable[[], nn.Module]) -> None:
    module = seeded(make())
    x = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    expected = torch.cat([module(image[None]) for image in x])
    network = brought(module)
    graph = network.graph()
    assert graph.reason
    assert "\n" not in graph.reason
    assert len(graph.reason) < 250
    assert network.card.notes[-1].endswith(f"{graph.reason}.")
    session = graph.session(graph.question(["output", "conv1"]), "cpu")
    size = graph.batch or 3
    scores = np.concatenate([session.run({graph.input: x[i : i + size].numpy()})[0] for i in range(0, 3, size)])
    np.testing.assert_allclose(scores, expected.numpy(), atol=1e-4)


@pytest.mark.usefixtures("own_home")
def test_a_newer_set_of_operators_is_taken_where_it_helps() -> None:
    graph = brought(seeded(Odd(shifted))).graph()
    assert not graph.reason
    assert next(entry.version for entry in graph.cut(["output"]).opset_import if not entry.domain) == 20


@pytest.mark.usefixtures("own_home")
def test_a_network_that_draws_numbers_is_not_judged_by_a_bound_that_noise_sets() -> None:
    network = brought(seeded(Odd(lambda n, m: n.fc(nn.functional.dropout(pooled(m))))))
    assert network.graph().reason == "it gives another answer each time that it sees the same image"


@pytest.mark.usefixtures("own_home")
def test_a_failed_export_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    network = brought(seeded(NOT_EXPORTED["fft"]()))
    reason = network.graph().reason
    monkeypatch.setattr(export, "export", lambda *_: pytest.fail("it was tried again"))
    assert TorchNetwork(network.name, network.card, network.module()).graph().reason == reason


def test_registration_tells_and_check_says_that_there_is_nothing_to_compare(tmp_path: Path, own_home: Path) -> None:
    register(tmp_path, arguments={"norm": True})
    note = zoo.load("mine").card.notes[-2:]
    assert any("aten::rms_norm" in line for line in note)
    zoo.forget()
    assert zoo.cached_card("mine") == zoo.load("mine").card
    record = execute(Request(method="check", network="mine"), Store(own_home), fresh=True)
    assert record.status == "done"
    assert "aten::rms_norm" in record.summary["ONNX graph"]
