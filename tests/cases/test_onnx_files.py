"""ONNX files as exporters, converters and downloads leave them: read as they are, or told in words why not."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from fovea.engine.run.execute import execute
from fovea.engine.run.record import Request
from fovea.engine.store import Store
from fovea.models import registry, zoo
from fovea.models.card import OUTPUT
from fovea.models.errors import NetworkError

Node = helper.make_node
SIDE = 16


def weights() -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(1)
    return {
        "kernel": (rng.standard_normal((8, 3, 3, 3)) * 0.3).astype(np.float32),
        "head": (rng.standard_normal((5, 8, 1, 1)) * 2).astype(np.float32),
    }


def model(
    ending: Sequence[onnx.NodeProto] = (Node("Flatten", ["scores"], ["flat"]),),
    outputs: Sequence[str] = ("flat",),
    kind: int = TensorProto.FLOAT,
    shape: Sequence[Any] = ("N", 3, SIDE, SIDE),
    before: Sequence[onnx.NodeProto] = (),
    opset: int = 17,
    ir: int = 8,
    more: Sequence[onnx.TensorProto] = (),
) -> onnx.ModelProto:
    """Conv, Relu, GlobalAveragePool, a head of 1 x 1 convolution, and `ending` behind its `scores`."""
    first = before[-1].output[0] if before else "photo"
    nodes = [
        *before,
        Node("Conv", [first, "kernel"], ["conv"], pads=[1, 1, 1, 1]),
        Node("Relu", ["conv"], ["relu"]),
        Node("GlobalAveragePool", ["relu"], ["pool"]),
        Node("Conv", ["pool", "head"], ["scores"]),
        *ending,
    ]
    held = [*(numpy_helper.from_array(value, name) for name, value in weights().items()), *more]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("photo", kind, shape)],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        held,
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir)


def save(proto: onnx.ModelProto, folder: Path, name: str = "net.onnx") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(proto.SerializeToString())
    return path


def apart(proto: onnx.ModelProto, folder: Path, *places: str) -> Path:
    """The model with each of its weights at one of `places`, files below `folder`."""
    for index, tensor in enumerate(proto.graph.initializer):
        place = places[index % len(places)]
        file = folder / place
        file.parent.mkdir(parents=True, exist_ok=True)
        before = file.read_bytes() if file.is_file() else b""
        before += b"\0" * (-len(before) % 64)
        file.write_bytes(before + tensor.raw_data)
        facts = {"location": place, "offset": str(len(before)), "length": str(len(tensor.raw_data))}
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in facts.items():
            entry = tensor.external_data.add()
            entry.key, entry.value = key, value
    return save(proto, folder)


def pixels() -> NDArray[np.uint8]:
    return np.random.default_rng(3).integers(0, 256, (SIDE, SIDE, 3), np.uint8)


def plain_scores(photo: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the network gives for (N, 3, H, W), by ONNX Runtime alone."""
    session = onnxruntime.InferenceSession(model().SerializeToString(), providers=["CPUExecutionProvider"])
    scores: NDArray[np.float32] = session.run(None, {"photo": photo})[0]
    return scores


def normalised() -> NDArray[np.float32]:
    mean, std = np.float32([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).reshape(2, 3, 1, 1)
    return ((pixels().transpose(2, 0, 1).astype(np.float32) / 255 - mean) / std)[None].astype(np.float32)


def classified(path: Path, home: Path, **fields: Any) -> tuple[NDArray[np.float32], Any]:
    """Logits that `classify` gives for the photo, and the card."""
    photo = home.parent / "photo.png"
    Image.fromarray(pixels()).save(photo)
    registry.register("mine", architecture=f"onnx:{path}", **{"input": {"size": SIDE, "resize": SIDE}, **fields})
    card = zoo.load("mine").card
    store = Store(home)
    record = execute(Request(method="classify", network="mine", image=str(photo), provider="cpu"), store, fresh=True)
    assert record.status == "done", record.error
    return store.run(record.id).array("logits"), card


@pytest.mark.parametrize(
    "places", [("net.onnx.data",), ("a.bin", "b.bin"), ("weights/all.data",), ("weights/a", "weights/deep/b")]
)
def test_weights_in_files_beside_or_below(places: tuple[str, ...], tmp_path: Path, own_home: Path) -> None:
    path = apart(model(), tmp_path / "net", *places)
    logits, card = classified(path, own_home)
    np.testing.assert_allclose(logits, plain_scores(normalised())[0], atol=1e-4)
    assert len(card.classes) == 5
    (path.parent / places[0]).unlink()
    with pytest.raises(NetworkError, match=rf"keeps its weights in another file, {places[0]}, which is missing"):
        zoo.load(f"onnx:{path}")


def test_another_file_of_weights_is_another_network(tmp_path: Path, own_home: Path) -> None:
    path = apart(model(), tmp_path / "net", "net.onnx.data")
    before = zoo.load(f"onnx:{path}").card
    file = path.with_name("net.onnx.data")
    content = bytearray(file.read_bytes())
    content[3] ^= 1
    file.write_bytes(bytes(content))
    assert zoo.cached_card(f"onnx:{path}") is None
    assert zoo.load(f"onnx:{path}").card.sha256 != before.sha256


@pytest.mark.parametrize(
    "place", ["../out.data", "/etc/hostname", "weights/../../out.data", "C:\\out.data", "link.data", ""]
)
def test_weights_out_of_the_folder_are_refused(place: str, tmp_path: Path, own_home: Path) -> None:
    folder = tmp_path / "net"
    path = apart(model(), folder, "net.onnx.data")
    shutil.copy(folder / "net.onnx.data", tmp_path / "out.data")
    (folder / "link.data").symlink_to(tmp_path / "out.data")
    proto = onnx.load(str(path), load_external_data=False)
    for tensor in proto.graph.initializer:
        next(entry for entry in tensor.external_data if entry.key == "location").value = place
    with pytest.raises(NetworkError, match="which is not in its folder"):
        zoo.load(f"onnx:{save(proto, folder)}")


def test_a_cache_that_links_both_files_into_one_folder(tmp_path: Path, own_home: Path) -> None:
    path = apart(model(), tmp_path / "blobs", "net.onnx.data")
    snapshot = tmp_path / "snapshots" / "1"
    snapshot.mkdir(parents=True)
    for name in ("net.onnx", "net.onnx.data"):
        (path.parent / name).rename(path.parent / f"0f{name}")
        (snapshot / name).symlink_to(path.parent / f"0f{name}")
    assert len(zoo.load(f"onnx:{snapshot / 'net.onnx'}").card.classes) == 5


def test_files_that_do_not_belong_together(tmp_path: Path, own_home: Path) -> None:
    path = apart(model(), tmp_path, "net.onnx.data")
    (tmp_path / "net.onnx.data").write_bytes(b"\1" * 100)
    with pytest.raises(NetworkError, match="do not belong together"):
        zoo.load(f"onnx:{path}")


def axes(*values: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, np.int64), "axes")


SHAPES: dict[str, Callable[[], onnx.ModelProto]] = {
    "(N, 5, 1, 1)": lambda: model((), ("scores",)),
    "(N, 1, 1, 5)": lambda: model((Node("Transpose", ["scores"], ["end"], perm=[0, 2, 3, 1]),), ("end",)),
    "(N, 1, 5)": lambda: model(
        (Node("Flatten", ["scores"], ["flat"]), Node("Unsqueeze", ["flat", "axes"], ["end"])), ("end",), more=[axes(1)]
    ),
    "squeezed, any batch": lambda: model((Node("Squeeze", ["scores"], ["end"]),), ("end",)),
    "squeezed, one photo": lambda: model(
        (Node("Squeeze", ["scores", "axes"], ["end"]),), ("end",), shape=(1, 3, SIDE, SIDE), more=[axes(0, 2, 3)]
    ),
    "without a batch axis": lambda: model(
        (Node("Flatten", ["scores"], ["flat"]), Node("Squeeze", ["flat", "axes"], ["end"])),
        ("end",),
        shape=(3, SIDE, SIDE),
        before=[Node("Unsqueeze", ["photo", "axes"], ["batched"])],
        more=[axes(0)],
    ),
    "channels last, sizes free": lambda: model(
        shape=("N", "h", "w", "c"), before=[Node("Transpose", ["photo"], ["first"], perm=[0, 3, 1, 2])]
    ),
    "double": lambda: model(kind=TensorProto.DOUBLE, before=[Node("Cast", ["photo"], ["float"], to=TensorProto.FLOAT)]),
    "half": lambda: model(kind=TensorProto.FLOAT16, before=[Node("Cast", ["photo"], ["float"], to=TensorProto.FLOAT)]),
    "double result": lambda: model(
        (Node("Flatten", ["scores"], ["flat"]), Node("Cast", ["flat"], ["end"], to=TensorProto.DOUBLE)), ("end",)
    ),
    "opset 12": lambda: model(opset=12, ir=7),
    "opset 9": lambda: model(opset=9, ir=4),
    "opset 7": lambda: model(opset=7, ir=3),
    "weights are inputs": lambda: listed(model(opset=8, ir=3)),
    "opset 21": lambda: model(opset=21, ir=10),
}


def listed(proto: onnx.ModelProto) -> onnx.ModelProto:
    """As files of IR version 3 have it: every weight is an input, too."""
    for tensor in proto.graph.initializer:
        proto.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    return proto


@pytest.mark.parametrize("make", SHAPES.values(), ids=SHAPES)
def test_outputs_inputs_and_operators_of_every_kind(
    make: Callable[[], onnx.ModelProto], tmp_path: Path, own_home: Path
) -> None:
    logits, card = classified(save(make(), tmp_path), own_home)
    np.testing.assert_allclose(logits, plain_scores(normalised())[0], atol=5e-3)
    assert (card.output, len(card.classes)) == ("logits", 5)
    store = Store(own_home)
    for method, options in (
        ("occlusion", {"window": 8, "stride": 8}),
        ("activations", {"layer": "relu"}),
        ("patches", {"dataset": "sample", "layers": ["relu"]}),
        ("neighbors", {"dataset": "sample"}),
    ):
        request = Request(method=method, network="mine", image="sample:cat", options=options, provider="cpu")
        record = execute(request, store, fresh=True)
        assert record.status == "done", f"{method}: {record.error}"


@pytest.mark.parametrize("kind", ["UINT8", "INT32", "INT64"])
def test_whole_numbers_are_fed_as_they_come(kind: str, tmp_path: Path, own_home: Path) -> None:
    cast = [Node("Cast", ["photo"], ["float"], to=TensorProto.FLOAT)]
    path = save(model(kind=getattr(TensorProto, kind), before=cast), tmp_path)
    logits, card = classified(path, own_home)
    expected = plain_scores(pixels().transpose(2, 0, 1)[None].astype(np.float32))[0]
    np.testing.assert_allclose(logits, expected, rtol=1e-4)
    assert card.preprocessing.range == (0, 255)
    assert any(f"whole numbers ({kind.lower()})" in note and "--range" in note for note in card.notes)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("names", [("cat", "dog", "cup", "face", "boat"), (3, 1, 4, 5, 9)])
def test_a_classifier_of_scikit_learn(zipped: bool, names: tuple[Any, ...], tmp_path: Path, own_home: Path) -> None:
    texts = isinstance(names[0], str)
    labels = {"classlabels_strings" if texts else "classlabels_ints": list(names)}
    coefficients = [float(v) for v in np.random.default_rng(2).standard_normal(5 * 5)]
    zip_labels = {"classlabels_strings" if texts else "classlabels_int64s": list(names)}
    ending = [
        Node("Flatten", ["scores"], ["flat"]),
        Node(
            "LinearClassifier", ["flat"], ["label", "raw"], domain="ai.onnx.ml", coefficients=coefficients,
            intercepts=[0.0] * 5, post_transform="SOFTMAX", **labels,
        ),
        Node("Normalizer", ["raw"], ["probabilities"], domain="ai.onnx.ml", norm="L1"),
    ]  # fmt: skip
    if zipped:
        ending.append(Node("ZipMap", ["probabilities"], ["map"], domain="ai.onnx.ml", **zip_labels))
    path = save(model(ending, ("label", "map" if zipped else "probabilities")), tmp_path)
    _, card = classified(path, own_home)
    assert card.output == "probabilities"
    assert card.classes == tuple(map(str, names))


def changed(**fields: Any) -> bytes:
    return model(**fields).SerializeToString()


def unknown(domain: str = "", name: str = "Swirl") -> bytes:
    proto = model((Node(name, ["scores"], ["end"], domain=domain),), ("end",))
    if domain:
        proto.opset_import.append(helper.make_opsetid(domain, 1))
    return proto.SerializeToString()


MESSAGES: dict[str, tuple[Callable[[], bytes], str]] = {
    "ir": (lambda: changed(ir=77), "its IR version 77 is newer than this ONNX Runtime reads"),
    "opset": (lambda: changed(opset=88), "its opset 88 of ai.onnx is newer than this ONNX Runtime reads"),
    "operator": (unknown, "ONNX Runtime knows no operator Swirl in opset 17"),
    "too old for it": (lambda: unknown(name="Gelu"), "knows no operator Gelu in opset 17"),
    "microsoft": (lambda: unknown("com.microsoft"), "knows no operator Swirl in the domain com.microsoft"),
    "custom": (lambda: unknown("my.company"), "uses the custom operator my.company::Swirl"),
    "pointer": (lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "a Git LFS pointer"),
    "empty": (lambda: b"", "is not an ONNX file: it is empty"),
    "web page": (lambda: b"<!DOCTYPE html>\n<html><head><title>x</title></head></html>", "a web page (HTML)"),
    "json": (lambda: b'{"error": "not found"}', "a JSON text"),
    "text": (lambda: b"Not Found", "a text, not a network"),
    "tflite": (lambda: b"\x1c\0\0\0TFL3" + b"\1" * 50, "a TensorFlow Lite model"),
    "keras": (lambda: b"\x89HDF\r\n\x1a\n" + b"\0" * 50, "an HDF5 file, as Keras writes"),
    "torch": (lambda: b"PK\x03\x04" + b"\0" * 50, "but weights, as torch or safetensors save them"),
    "gzip": (lambda: b"\x1f\x8b\x08" + b"\0" * 50, "a gzip archive"),
    "vectors": (lambda: changed(shape=("N", 64)), "is not an image of numbers (N, C, H, W), but float32 (N, 64)"),
}


@pytest.mark.parametrize(("content", "words"), MESSAGES.values(), ids=MESSAGES)
def test_the_reason_is_given_in_words(content: Callable[[], bytes], words: str, tmp_path: Path, own_home: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(content())
    with pytest.raises(NetworkError) as caught:
        zoo.load(f"onnx:{tmp_path / 'net.onnx'}")
    line = str(caught.value)
    assert words in line
    assert "\n" not in line
    assert "onnxruntime_src" not in line
    assert "::Model" not in line


def test_a_mended_file_is_read_anew(tmp_path: Path, own_home: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"Not Found")
    with pytest.raises(NetworkError):
        zoo.load(f"onnx:{path}")
    save(model(), tmp_path)
    network = zoo.load(f"onnx:{path}")
    (scores,) = network.graph().session(network.graph().cut([OUTPUT]), "cpu").run({"net/photo": normalised()})
    np.testing.assert_allclose(scores, plain_scores(normalised()), atol=1e-4)
