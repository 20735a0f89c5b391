"""Reductions inside the graph equal numpy on the tapped maps, for every kind of axes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper

from fovea.engine.errors import UnsupportedError
from fovea.engine.look.probing import reducers
from fovea.engine.look.probing.reducers import Editor
from fovea.models import torch_net
from fovea.models.card import OUTPUT, Layer, Preprocessing
from fovea.models.graph.sessions import Session
from tests.networks.modules import Tiny, TinyTokens
from tests.networks.tiny import TinyNetwork, exported_network
from tests.oracles.look_reducers import maps_of, maximum_of


@pytest.fixture(scope="module")
def convolutional(tmp_path_factory: pytest.TempPathFactory) -> TinyNetwork:
    return exported_network(tmp_path_factory.mktemp("tiny"), Tiny(), size=(24, 40))


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> TinyNetwork:
    return exported_network(tmp_path_factory.mktemp("tokens"), TinyTokens(classes=5), size=(24, 40), classes=5)


def asked(network: TinyNetwork, tap: str, inputs: np.ndarray) -> list[np.ndarray]:
    """Score, row, column and mean of a tap, from inside the graph."""
    graph = network.graph()
    editor = Editor(graph.cut([tap]))
    layer = reducers.read_layer(network.card, tap)
    maps = reducers.as_maps(editor, graph.taps[tap], layer)
    maximum = reducers.spatial_maximum(editor, maps, layer)
    editor.answer(maximum.score, "score")
    editor.answer(maximum.row, "row", "int64")
    editor.answer(maximum.column, "column", "int64")
    editor.answer(reducers.spatial_mean(editor, maps), "mean")
    return Session(editor.build(), "cpu").run({graph.input: inputs})


def check_tap(network: TinyNetwork, tap: str, axes: str) -> None:
    channels, (height, width) = network.card.preprocessing.channels, network.card.preprocessing.size
    inputs = np.random.default_rng(0).normal(size=(3, channels, height, width)).astype(np.float32)
    layer = reducers.read_layer(network.card, tap)
    assert layer.axes == axes
    values = torch_net.forward_taps(network.module(), torch.from_numpy(inputs), [tap])[tap].numpy()
    maps = maps_of(values, layer)
    score, row, column, mean = asked(network, tap, inputs)
    want_score, want_row, want_column = maximum_of(maps)
    np.testing.assert_allclose(score, want_score, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(row, want_row)
    np.testing.assert_array_equal(column, want_column)
    np.testing.assert_allclose(mean, maps.mean((2, 3)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("tap", "axes"),
    [("first", "NCHW"), ("relu", "NCHW"), ("second", "NCHW"), ("norm", "NHWC"), ("head", "vector"), (OUTPUT, "vector")],
)
def test_maximum_and_mean_of_a_convolutional_network(convolutional: TinyNetwork, tap: str, axes: str) -> None:
    check_tap(convolutional, tap, axes)


def test_maximum_and_mean_of_tokens_leave_the_class_token_out(tokens: TinyNetwork) -> None:
    assert tokens.card.layer("block").extra_tokens == 1
    check_tap(tokens, "block", "tokens")
    check_tap(tokens, "patches", "NCHW")


def identity_graph(shape: tuple[int, ...]) -> Editor:
    """A graph whose one tap is its input."""
    graph = helper.make_graph(
        [helper.make_node("Identity", ["input"], ["tap"])],
        "identity",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", *shape])],
        [helper.make_tensor_value_info("tap", TensorProto.FLOAT, ["N", *shape])],
    )
    return Editor(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


def maximum_in_graph(values: np.ndarray) -> list[np.ndarray]:
    layer = Layer(
        name="tap", kind="", shape=values.shape[1:], axes="NCHW", units=values.shape[1], grid=values.shape[2:]
    )
    editor = identity_graph(values.shape[1:])
    maximum = reducers.spatial_maximum(editor, reducers.as_maps(editor, "tap", layer), layer)
    for name, dtype in (("score", "float32"), ("row", "int64"), ("column", "int64")):
        editor.answer(getattr(maximum, name), name, dtype)
    return Session(editor.build(), "cpu").run({"input": values})


def test_of_equal_maxima_the_first_row_then_the_first_column_wins() -> None:
    values = np.random.default_rng(3).integers(0, 3, size=(5, 4, 6, 7)).astype(np.float32)
    for found, wanted in zip(maximum_in_graph(values), maximum_of(values), strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_negative_and_infinite_maps_keep_their_maximum() -> None:
    values = -np.random.default_rng(4).random((2, 3, 4, 5), np.float32) - 1
    values[0, 0, 2, 3] = np.inf
    values[1, 1] = -np.inf
    for found, wanted in zip(maximum_in_graph(values), maximum_of(values), strict=True):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"order": "BGR"},
        {"range": (-1.0, 1.0), "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)},
        {"range": (0.0, 255.0), "mean": (103.9, 116.8, 123.7), "std": (1.0, 1.0, 1.0), "order": "BGR"},
        {"channels": 1, "mean": (0.5,), "std": (0.2,)},
        {"channels": 4, "mean": (0.5, 0.4, 0.3, 0.0), "std": (0.2, 0.2, 0.2, 1.0)},
    ],
)
def test_normalising_inside_the_graph_gives_the_same_bits(facts: dict) -> None:
    preprocessing = Preprocessing(size=(9, 16), **facts)
    frames = np.random.default_rng(0).integers(0, 256, (4, 9, 16, preprocessing.channels), dtype=np.uint8)
    editor = identity_graph((preprocessing.channels, 9, 16))
    reducers.normalised_input(editor, preprocessing)
    editor.answer("tap", "seen")
    (seen,) = Session(editor.build(), "cpu").run({"pixels": frames})
    np.testing.assert_array_equal(seen, preprocessing.normalise(frames))


@pytest.mark.parametrize("channels", [1, 3])
def test_occluded_inputs_equal_slices_written_by_hand(channels: int) -> None:
    size, window = (20, 33), 7
    preprocessing = Preprocessing(size=size, channels=channels, mean=(0.5,) * channels, std=(0.5,) * channels)
    photo, cover = np.random.default_rng(1).normal(size=(2, 1, channels, *size)).astype(np.float32)
    ys, xs = np.array([0, 5, 18, 20, 5, 0]), np.array([0, 30, 3, 0, 30, 26])
    editor = identity_graph((channels, *size))
    reducers.occluded_input(editor, preprocessing, window)
    editor.answer("tap", "seen")
    (seen,) = Session(editor.build(), "cpu").run({"photo": photo, "cover": cover, "ys": ys, "xs": xs})
    for n, (y, x) in enumerate(zip(ys, xs, strict=True)):
        wanted = photo[0].copy()
        wanted[:, y : y + window, x : x + window] = cover[0, :, y : y + window, x : x + window]
        np.testing.assert_array_equal(seen[n], wanted)


def test_class_scores_are_a_softmax_only_of_logits(convolutional: TinyNetwork) -> None:
    card = convolutional.card
    values = np.random.default_rng(0).normal(size=(2, 7)).astype(np.float32)

    def scores(output: str, score: str) -> np.ndarray:
        editor = identity_graph((7,))
        known = card.model_copy(update={"output": output})
        editor.answer(editor.float32(reducers.class_scores(editor, "tap", known, score)), "seen")
        return Session(editor.build(), "cpu").run({"input": values})[0]

    np.testing.assert_array_equal(scores("logits", "logit"), values)
    np.testing.assert_array_equal(scores("probabilities", "probability"), values)
    softmax = np.exp(values) / np.exp(values).sum(1, keepdims=True)
    np.testing.assert_allclose(scores("logits", "probability"), softmax, rtol=1e-5)
    with pytest.raises(UnsupportedError, match="choose probability"):
        scores("probabilities", "logit")
    with pytest.raises(UnsupportedError, match="choose a layer and a unit"):
        scores("features", "probability")


def test_two_questions_at_once_and_a_layer_without_units(convolutional: TinyNetwork, tmp_path: Path) -> None:
    graph = convolutional.graph()
    editor = Editor(graph.cut(["first", "second"]))
    for tap in ("first", "second"):
        layer = reducers.read_layer(convolutional.card, tap)
        editor.answer(reducers.spatial_mean(editor, reducers.as_maps(editor, graph.taps[tap], layer)), f"mean.{tap}")
    found = Session(editor.build(), "cpu").run({graph.input: np.zeros((1, 3, 24, 40), np.float32)})
    assert [answer.shape for answer in found] == [(1, 6), (1, 10)]
    unitless = Layer(name="odd", kind="", shape=(3,), axes="none", units=0)
    card = convolutional.card.model_copy(update={"layers": (unitless,)})
    with pytest.raises(UnsupportedError, match="no units"):
        reducers.read_layer(card, "odd")
