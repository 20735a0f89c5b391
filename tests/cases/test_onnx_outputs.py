"""What the output of an ONNX file means, however its end is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from fovea.engine.errors import NetworkError, UnknownNameError
from fovea.engine.method import Job, find_method
from fovea.models import registry, zoo
from fovea.models.network import Network

INPUT = {"size": 16, "resize": 16}
Node = tuple[str, list[str], list[str], dict[str, Any]]


def write(path: Path, nodes: list[Node], outputs: list[str], width: int = 5, opset: int = 17) -> Path:
    """A small network whose scores are `scores` (N, width) and whose features are `features`, and the nodes behind."""
    rng = np.random.default_rng(1)
    values = {
        "kernel": rng.standard_normal((8, 3, 3, 3)) * 0.3,
        "head": rng.standard_normal((8, width)) * 2,
        "one": np.ones(1),
        "half": np.full(1, 0.5),
    }
    weights = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in values.items()]
    weights += [
        numpy_helper.from_array(np.array([-1]), "all"),
        numpy_helper.from_array(np.array([1]), "axis"),
        numpy_helper.from_array(np.array([2]), "two"),
        numpy_helper.from_array(np.array([0]), "zero"),
    ]
    body: list[Node] = [
        ("Conv", ["photo", "kernel"], ["conv"], {"pads": [1, 1, 1, 1]}),
        ("Relu", ["conv"], ["relu"], {}),
        ("GlobalAveragePool", ["relu"], ["pool"], {}),
        ("Flatten", ["pool"], ["features"], {}),
        ("MatMul", ["features", "head"], ["scores"], {}),
        *nodes,
    ]
    graph = helper.make_graph(
        [helper.make_node(kind, reads, makes, **attributes) for kind, reads, makes, attributes in body],
        "small",
        [helper.make_tensor_value_info("photo", TensorProto.FLOAT, ["N", 3, 16, 16])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        weights,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
    return path


@pytest.fixture
def bring_file(own_home: Path, tmp_path: Path) -> Callable[..., Network]:
    def make(nodes: list[Node], outputs: list[str], width: int = 5, **fields: Any) -> Network:
        path = write(tmp_path / "net.onnx", nodes, outputs, width)
        registry.register("mine", architecture=f"onnx:{path}", input=INPUT, **fields)
        return zoo.load("mine")

    return make


def check(network: Network, path: Path, output: str, sides: bool = False) -> None:
    """That classify gives what the file's own output says."""
    frame = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    job = Job(network, find_method("classify").options.parse({"top": 100}), photo=Image.fromarray(frame))
    table = find_method("classify").run(job).tables["classes"]
    said = dict(zip(table["class"], table["probability"], strict=True))
    want = onnxruntime.InferenceSession(str(path)).run([output], {"photo": job.input})[0].reshape(-1)
    if sides:
        want = np.array([1 - want[0], want[0]])
    np.testing.assert_allclose([said[name] for name in network.card.classes], want, atol=1e-5)


SUM: dict[str, Any] = {"keepdims": 1}
SOFTMAX: dict[str, list[Node]] = {
    "softmax": [("Softmax", ["scores"], ["p"], {"axis": 1})],
    "cast": [("Softmax", ["scores"], ["s"], {"axis": 1}), ("Cast", ["s"], ["p"], {"to": 1})],
    "identity": [("Softmax", ["scores"], ["s"], {"axis": -1}), ("Identity", ["s"], ["p"], {})],
    "flatten": [("Softmax", ["scores"], ["s"], {"axis": 1}), ("Flatten", ["s"], ["p"], {})],
    "twice": [
        ("Softmax", ["scores"], ["s"], {"axis": 1}),
        ("Cast", ["s"], ["h"], {"to": 10}),
        ("Cast", ["h"], ["f"], {"to": 1}),
        ("Identity", ["f"], ["p"], {}),
    ],
    "spelled out": [
        ("ReduceMax", ["scores"], ["m"], {"axes": [1]}),
        ("Sub", ["scores", "m"], ["z"], {}),
        ("Exp", ["z"], ["e"], {}),
        ("ReduceSum", ["e", "axis"], ["t"], SUM),
        ("Div", ["e", "t"], ["p"], {}),
    ],
    "by a reciprocal": [
        ("Exp", ["scores"], ["e"], {}),
        ("ReduceSum", ["e", "axis"], ["t"], SUM),
        ("Reciprocal", ["t"], ["r"], {}),
        ("Mul", ["e", "r"], ["p"], {}),
    ],
    "exp of logarithms": [("LogSoftmax", ["scores"], ["l"], {"axis": 1}), ("Exp", ["l"], ["p"], {})],
    "transposed": [
        ("Softmax", ["scores"], ["s"], {"axis": 1}),
        ("Transpose", ["s"], ["t"], {"perm": [1, 0]}),
        ("Transpose", ["t"], ["p"], {"perm": [1, 0]}),
    ],
    "map": [
        ("Softmax", ["scores"], ["s"], {"axis": 1}),
        ("Unsqueeze", ["s", "two"], ["p"], {}),
    ],
}


@pytest.mark.parametrize("nodes", SOFTMAX.values(), ids=SOFTMAX)
def test_probabilities_are_taken_as_they_are(
    bring_file: Callable[..., Network], tmp_path: Path, nodes: list[Node]
) -> None:
    network = bring_file(nodes, ["p"])
    assert network.card.output == "probabilities"
    check(network, tmp_path / "net.onnx", "p")


SIGMOID: dict[str, list[Node]] = {
    "sigmoid": [("Sigmoid", ["scores"], ["p"], {})],
    "cast": [("Sigmoid", ["scores"], ["s"], {}), ("Cast", ["s"], ["p"], {"to": 1})],
    "spelled out": [
        ("Neg", ["scores"], ["n"], {}),
        ("Exp", ["n"], ["e"], {}),
        ("Add", ["one", "e"], ["d"], {}),
        ("Div", ["one", "d"], ["p"], {}),
    ],
    "reciprocal": [
        ("Neg", ["scores"], ["n"], {}),
        ("Exp", ["n"], ["e"], {}),
        ("Add", ["e", "one"], ["d"], {}),
        ("Reciprocal", ["d"], ["p"], {}),
    ],
    "tanh": [
        ("Mul", ["scores", "half"], ["h"], {}),
        ("Tanh", ["h"], ["t"], {}),
        ("Mul", ["t", "half"], ["u"], {}),
        ("Add", ["u", "half"], ["p"], {}),
    ],
    "clipped": [("Sigmoid", ["scores"], ["s"], {}), ("Clip", ["s"], ["p"], {})],
}


@pytest.mark.parametrize("width", [1, 5])
@pytest.mark.parametrize("nodes", SIGMOID.values(), ids=SIGMOID)
def test_a_sigmoid_gives_labels_or_two_sides(
    bring_file: Callable[..., Network], tmp_path: Path, nodes: list[Node], width: int
) -> None:
    network = bring_file(nodes, ["p"], width)
    assert network.card.output == ("sigmoid" if width > 1 else "binary_probability")
    check(network, tmp_path / "net.onnx", "p", sides=width == 1)


@pytest.mark.parametrize("names", ["", "no,yes"])
@pytest.mark.parametrize("squeezed", [False, True])
def test_one_logit_has_two_sides(
    bring_file: Callable[..., Network], tmp_path: Path, squeezed: bool, names: str
) -> None:
    nodes: list[Node] = (
        [("Squeeze", ["scores", "axis"], ["z"], {})] if squeezed else [("Identity", ["scores"], ["z"], {})]
    )
    nodes.append(("Sigmoid", ["z"], ["p"], {}))
    network = bring_file(nodes[:1], ["z"], 1, **({"classes": names} if names else {}))
    assert network.card.output == "binary"
    assert network.card.classes == (("no", "yes") if names else ("class 0", "class 1"))
    write(tmp_path / "whole.onnx", nodes, ["p"], 1)
    check(network, tmp_path / "whole.onnx", "p", sides=True)


def test_one_side_and_the_other(bring_file: Callable[..., Network], tmp_path: Path) -> None:
    nodes: list[Node] = [
        ("Sigmoid", ["scores"], ["s"], {}),
        ("Sub", ["one", "s"], ["n"], {}),
        ("Concat", ["n", "s"], ["p"], {"axis": 1}),
    ]
    network = bring_file(nodes, ["p"], 1)
    assert network.card.output == "probabilities"
    assert len(network.card.classes) == 2
    check(network, tmp_path / "net.onnx", "p")


def test_logits_stay_logits(bring_file: Callable[..., Network], tmp_path: Path) -> None:
    network = bring_file([], ["scores"])
    assert network.card.output == "logits"
    write(tmp_path / "whole.onnx", SOFTMAX["softmax"], ["p"])
    check(network, tmp_path / "whole.onnx", "p")


def test_logarithms_are_logits(bring_file: Callable[..., Network], tmp_path: Path) -> None:
    network = bring_file([("LogSoftmax", ["scores"], ["l"], {"axis": 1})], ["l"])
    assert network.card.output == "logits"
    assert any("logarithm" in note for note in network.card.notes)
    check_nodes = [("LogSoftmax", ["scores"], ["l"], {"axis": 1}), ("Exp", ["l"], ["p"], {})]
    write(tmp_path / "whole.onnx", check_nodes, ["p"])  # type: ignore[arg-type]
    check(network, tmp_path / "whole.onnx", "p")


@pytest.mark.parametrize("outputs", [["features", "scores"], ["scores", "features"]])
def test_the_scores_of_several_outputs(bring_file: Callable[..., Network], outputs: list[str]) -> None:
    card = bring_file([], outputs).card
    assert len(card.classes) == 5
    assert any("reads scores" in note and "--output-name" in note for note in card.notes)


def test_an_output_is_named(bring_file: Callable[..., Network]) -> None:
    card = bring_file([], ["scores", "features"], output_name="features").card
    assert len(card.classes) == 8
    assert card.output_name == "features"


def test_a_wrong_name_is_told(bring_file: Callable[..., Network]) -> None:
    with pytest.raises((UnknownNameError, NetworkError), match="scores"):
        bring_file([], ["scores", "features"], output_name="score")


def test_a_graph_that_draws_numbers_says_so(bring_file: Callable[..., Network]) -> None:
    nodes: list[Node] = [
        ("RandomNormalLike", ["scores"], ["noise"], {"scale": 1.0}),
        ("Add", ["scores", "noise"], ["z"], {}),
    ]
    card = bring_file(nodes, ["z"]).card
    assert card.varies
    assert any("differently each time" in note for note in card.notes)
