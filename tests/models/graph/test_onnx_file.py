"""ONNX files as users have them: what is read from the graph, and the one line for each that is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fovea.models import registry, zoo
from fovea.models.card import OUTPUT
from fovea.models.errors import NetworkError
from fovea.models.graph.sessions import Session


def small(
    batch: Any = "n", side: Any = 12, kind: int = TensorProto.FLOAT, softmax: bool = False, last: bool = False
) -> onnx.ModelProto:
    """Conv, Relu, GlobalAveragePool, Flatten, Gemm: 3 classes."""
    rng, dtype = np.random.default_rng(0), helper.tensor_dtype_to_np_dtype(kind)
    weights = [
        numpy_helper.from_array(rng.standard_normal((4, 3, 3, 3)).astype(dtype), "w"),
        numpy_helper.from_array(rng.standard_normal((4, 3)).astype(dtype), "v"),
    ]
    first = "nchw" if last else "image"
    nodes = [helper.make_node("Transpose", ["image"], ["nchw"], perm=[0, 3, 1, 2])] if last else []
    nodes += [
        helper.make_node("Conv", [first, "w"], ["conv_output_0"], kernel_shape=[3, 3]),
        helper.make_node("Relu", ["conv_output_0"], ["relu_output_0"]),
        helper.make_node("GlobalAveragePool", ["relu_output_0"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "v"], ["logits" if softmax else "output"]),
    ]
    if softmax:
        nodes.append(helper.make_node("Softmax", ["logits"], ["output"]))
    shape = [batch, side, side, 3] if last else [batch, 3, side, side]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", kind, shape)],
        [helper.make_tensor_value_info("output", kind, [batch, 3])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def save(model: onnx.ModelProto, folder: Path) -> str:
    path = folder / "net.onnx"
    # Not `onnx.save`, which would try to write external data itself.
    path.write_bytes(model.SerializeToString())
    return f"onnx:{path}"


def run(name: str, taps: list[str], batch: int = 3) -> list[np.ndarray[Any, Any]]:
    network = zoo.load(name)
    graph = network.graph()
    x = np.random.default_rng(1).standard_normal((batch, *graph.input_shape)).astype(np.float32)
    return Session(graph.cut(taps), "cpu").run({graph.input: x})


def test_every_nodes_output_is_a_tap(tmp_path: Path, fovea_home: Path) -> None:
    name = save(small(), tmp_path)
    card = zoo.load(name).card
    assert [layer.name for layer in card.layers] == ["conv", "relu", "pooled", "flat", "output#1"]
    assert card.layer("relu").grid == (10, 10)
    assert (card.output, card.gradients, len(card.classes)) == ("logits", False, 3)
    assert zoo.cached_card(name) == card
    relu, output = run(name, ["relu", OUTPUT])
    assert relu.shape == (3, 4, 10, 10)
    assert output.shape == (3, 3)
    with pytest.raises(NetworkError, match="gradients cannot be computed"):
        zoo.load(name).module()
    assert {layer.name: layer.activates for layer in card.layers if layer.activates} == {"relu": "conv"}


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        (lambda: small(softmax=True), "probabilities"),
        (lambda: small(batch=1), "logits"),
        (lambda: small(side="s"), "logits"),
        (lambda: small(kind=TensorProto.FLOAT16), "logits"),
        (lambda: small(last=True), "logits"),
        (lambda: small(kind=TensorProto.FLOAT16, last=True), "logits"),
    ],
    ids=["softmax", "batch of one", "free size", "half precision", "channels last", "half, channels last"],
)
def test_files_of_every_kind(tmp_path: Path, fovea_home: Path, model: Callable[[], Any], kind: str) -> None:
    name = save(model(), tmp_path)
    card = zoo.load(name).card
    assert card.output == kind
    assert card.preprocessing.channels == 3
    relu, output = run(name, ["relu", OUTPUT])
    assert output.shape == (3, 3)
    assert relu.dtype == output.dtype == np.float32
    assert np.isfinite(output).all()


def test_several_outputs(tmp_path: Path, fovea_home: Path) -> None:
    model = small()
    model.graph.output.insert(0, helper.make_tensor_value_info("flat", TensorProto.FLOAT, ["n", 4]))
    card = zoo.load(save(model, tmp_path)).card
    assert any("2 outputs" in note and "output" in note for note in card.notes)
    assert len(card.classes) == 3


def test_a_batch_size_that_is_built_in(tmp_path: Path, fovea_home: Path) -> None:
    model = small(batch=1)
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 4], np.int64), "shape"))
    index = next(i for i, n in enumerate(model.graph.node) if n.op_type == "Flatten")
    model.graph.node[index].CopyFrom(helper.make_node("Reshape", ["pooled", "shape"], ["flat"]))
    network = zoo.load(save(model, tmp_path))
    assert network.graph().batch == 1
    assert "The graph takes batches of exactly 1." in network.card.notes


@pytest.mark.parametrize("batch", [1, 2])
def test_methods_on_a_batch_size_that_is_built_in(batch: int, tmp_path: Path, fovea_home: Path) -> None:
    from fovea.engine.run.execute import execute
    from fovea.engine.run.record import Request
    from fovea.engine.store import Store

    model = small(batch=batch)
    model.graph.initializer.append(numpy_helper.from_array(np.array([batch, 4], np.int64), "shape"))
    index = next(i for i, n in enumerate(model.graph.node) if n.op_type == "Flatten")
    model.graph.node[index].CopyFrom(helper.make_node("Reshape", ["pooled", "shape"], ["flat"]))
    name = save(model, tmp_path)
    assert zoo.load(name).graph().batch == batch
    store = Store(tmp_path / "home")
    for method, options in (("occlusion", {"window": 4, "stride": 4}), ("activations", {"layer": "relu"})):
        request = Request(method=method, network=name, image="sample:cat", options=options, provider="cpu")
        assert execute(request, store, fresh=True).status == "done"
    with pytest.raises(NetworkError, match=r"^the graph does not run on net/image \(3, 3, 12, 12\): "):
        run(name, [OUTPUT])


def test_registered_with_hints(tmp_path: Path, fovea_home: Path) -> None:
    save(small(), tmp_path)
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    registry.register(
        "from_onnx",
        architecture=f"onnx:{tmp_path / 'net.onnx'}",
        classes=str(tmp_path / "classes.txt"),
        input={"range": [0, 255], "order": "BGR"},
    )
    card = zoo.load("from_onnx").card
    assert card.classes == ("a", "b", "c")
    assert card.preprocessing.range == (0, 255)
    registry.unregister("from_onnx")


def external() -> onnx.ModelProto:
    model = small()
    tensor = model.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../secret"
    return model


def custom() -> onnx.ModelProto:
    model = small()
    model.graph.node[1].domain = "my.company"
    model.graph.node[1].op_type = "Swirl"
    return model


def branching() -> onnx.ModelProto:
    model = small()
    inner = helper.make_graph([], "then", [], [helper.make_empty_tensor_value_info("relu_output_0")])
    model.graph.node[1].CopyFrom(
        helper.make_node("If", ["conv_output_0"], ["relu_output_0"], then_branch=inner, else_branch=inner)
    )
    return model


def two_inputs() -> onnx.ModelProto:
    model = small()
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, ["n", 1]))
    return model


def absolute() -> onnx.ModelProto:
    model = external()
    model.graph.initializer[0].external_data[0].value = "/etc/passwd"
    return model


def no_image() -> onnx.ModelProto:
    model = small()
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3]))
    return model


@pytest.mark.parametrize(
    ("model", "line"),
    [
        (external, "keeps its weights in another file (../../secret)"),
        (absolute, "keeps its weights in another file (/etc/passwd)"),
        (custom, "uses the custom operator my.company::Swirl"),
        (branching, "branches or loops (If)"),
        (two_inputs, "has 2 inputs: it must have one, the image"),
        (no_image, "is not an image of numbers (N, C, H, W), but float32 (n, 3)"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, fovea_home: Path, model: Callable[[], Any], line: str) -> None:
    with pytest.raises(NetworkError) as caught:
        zoo.load(save(model(), tmp_path))
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"text, not a graph", b"\x08\x07\x12"], ids=["empty", "text", "truncated"])
def test_files_that_are_no_onnx(tmp_path: Path, fovea_home: Path, content: bytes) -> None:
    (tmp_path / "net.onnx").write_bytes(content)
    with pytest.raises(NetworkError, match="is not an ONNX file"):
        zoo.load(f"onnx:{tmp_path / 'net.onnx'}")
