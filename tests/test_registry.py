"""Every method of the registry on tiny networks of every kind: it runs, saves what it declares, repeats itself."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fovea.engine.errors import FoveaError
from fovea.engine.method import methods
from fovea.engine.options import ClassesKind, ClassKind, LayerKind, LayersKind, NetworksKind, declared
from fovea.engine.run.execute import execute
from fovea.engine.run.record import Request
from fovea.engine.store import Store

NETWORKS = ["residual", "branching", "depthwise", "functional", "grey", "wide"]

SOURCE = Path(__file__).parent / "networks" / "modules.py"
"""The file that is registered as a user's own code."""

INPUTS: dict[str, dict[str, Any]] = {
    "grey": {"size": [32, 32], "resize": 36, "mean": [0.5], "std": [0.25], "channels": 1},
    "wide": {"size": [32, 48], "resize": 34, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "channels": 3},
}
OTHERS: dict[str, dict[str, Any]] = {
    # Four channels of 0 … 255 and not square; and what comes out is no logit.
    "four": {
        "architecture": "Probabilities",
        "arguments": {"channels": 4},
        "output": "probabilities",
        "input": {"size": [32, 48], "channels": 4, "range": [0, 255], "mean": [100] * 4, "std": [60] * 4},
    },
    "bgr": {
        "architecture": "Features",
        "output": "features",
        "input": {"size": [32, 32], "range": [-1, 1], "order": "BGR"},
    },
}
CLASSES = {"residual": "Residual", "branching": "Branching", "depthwise": "Depthwise", "functional": "Functional"}


def arrays_of(run: Any) -> list[str]:
    """The arrays that the run's panels show."""
    return sorted(name for panel in run.record.panels for name in panel.reads().arrays)


@pytest.fixture(scope="module")
def store(fovea_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store beside registered tiny networks with seeded weights."""
    import torch
    from safetensors.torch import save_file

    from fovea.models.registry import register
    from tests.networks import modules

    folder = tmp_path_factory.mktemp("tiny")
    (folder / "classes.txt").write_text("cat\ndog\ncup\nface\nboat\n")
    for name in NETWORKS:
        architecture = CLASSES.get(name, "Functional")
        arguments = {"channels": 1} if name == "grey" else {}
        torch.manual_seed(0)
        net = getattr(modules, architecture)(**arguments)
        save_file(net.state_dict(), folder / f"{name}.safetensors")
        register(
            f"tiny-{name}",
            architecture=f"{SOURCE}:{architecture}",
            weights=str(folder / f"{name}.safetensors"),
            classes=str(folder / "classes.txt"),
            input=INPUTS.get(name, INPUTS["wide"] | {"size": [32, 32]}),
            arguments=arguments,
        )
    for name, fields in OTHERS.items():
        torch.manual_seed(0)
        net = getattr(modules, fields["architecture"])(**fields.get("arguments", {}))
        save_file(net.state_dict(), folder / f"{name}.safetensors")
        place = {"architecture": f"{SOURCE}:{fields['architecture']}", "weights": str(folder / f"{name}.safetensors")}
        register(f"tiny-{name}", **{**fields, **place})
    register("tiny-file", architecture=f"onnx:{_onnx_file(folder)}", input={"resize": 34})
    return Store()


def _onnx_file(folder: Path) -> Path:
    """A network as a user's ONNX file that takes one photo at a time and ends in a softmax."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["conv"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["conv"], ["photo"]),  # a name that a question uses, too
        helper.make_node("GlobalAveragePool", ["photo"], ["pool"]),
        helper.make_node("Reshape", ["pool", "flat"], ["vector"]),
        helper.make_node("Gemm", ["vector", "v"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["scores"]),
    ]
    weights = [
        numpy_helper.from_array(rng.standard_normal((8, 3, 3, 3)).astype(np.float32), "w"),
        numpy_helper.from_array(rng.standard_normal((8, 5)).astype(np.float32), "v"),
        numpy_helper.from_array(np.array([1, 8], np.int64), "flat"),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 32, 32])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 5])],
        weights,
    )
    path = folder / "tiny.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six small photos of coloured noise with a shape in them."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for index in range(6):
        pixels = rng.integers(0, 120, (40, 52, 3), dtype=np.uint8)
        pixels[8 + index : 24 + index, 10 : 26 + index] += 100
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return folder


def small_options(name: str, photos: Path, card: Any) -> dict[str, Any]:
    """Options that make any method small, chosen by what its options declare and never by its name."""
    method = methods()[name]
    chosen: dict[str, Any] = {}
    for option, info in method.options.model_fields.items():
        kind = declared(info).kind.name
        unit = declared(info).unit
        if kind == "dataset" and info.default:
            chosen[option] = str(photos)
        elif kind == "photo" and info.is_required():
            chosen[option] = str(photos / "1.png")
        elif unit == "px" and isinstance(info.default, int) and info.default > 8:
            chosen[option] = 8
        elif unit in ("steps", "samples") and isinstance(info.default, int | None):
            chosen[option] = min(info.default or 4, 4)
    return chosen


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", sorted(methods()))
def test_every_method_runs_on_every_kind_of_network(name: str, network: str, store: Store, photos: Path) -> None:
    from fovea.models.zoo import load

    method = methods()[name]
    options = small_options(name, photos, load(f"tiny-{network}").card)
    request = Request(
        method=name,
        network=f"tiny-{network}",
        image=str(photos / "0.png") if method.photo else None,
        options=options,
        seed=3,
        device="cpu",
        provider="cpu",
    )
    record = execute(request, store, fresh=True)
    assert record.status == "done", record.error
    run = store.run(record.id)
    assert run.record.panels
    for panel in run.record.panels:
        reads = panel.reads()
        for array in reads.arrays:
            assert np.isfinite(run.array(array)).all()
        for table, columns in reads.tables.items():
            assert columns <= set(run.table(table).columns)
        for image in reads.images:
            assert run.image(image).size
    again = store.run(execute(request, store, fresh=True).id)
    for array in arrays_of(run):
        np.testing.assert_array_equal(run.array(array), again.array(array))
    for name in run.images:
        assert run.image_path(name).read_bytes() == again.image_path(name).read_bytes(), name
    assert (run.folder / "preview.png").is_file()


@pytest.fixture(scope="module")
def cuda() -> None:
    """The test is skipped where torch or ONNX Runtime has no CUDA device."""
    import torch

    from fovea.models.graph.sessions import check_providers

    if not torch.cuda.is_available():
        pytest.skip("torch finds no CUDA device")
    (row,) = (row for row in check_providers() if row["name"] == "cuda")
    if not row["works"]:
        pytest.skip(f"ONNX Runtime has no CUDA: {row['reason']}")


@pytest.mark.gpu
@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", sorted(methods()))
def test_the_gpu_gives_what_the_cpu_gives(name: str, network: str, store: Store, photos: Path) -> None:
    """Maps up to rounding; what is made, where roundings grow with the steps, at least the same each time."""
    from fovea.models.zoo import load

    method = methods()[name]
    options = small_options(name, photos, load(f"tiny-{network}").card)
    image = str(photos / "0.png") if method.photo else None

    def made(device: str) -> Any:
        place = {"device": device, "provider": device}
        request = Request(method=name, network=f"tiny-{network}", image=image, options=options, seed=3, **place)
        return store.run(execute(request, store, fresh=True).id)

    cpu = made("cpu")
    one, other = made("cuda"), made("cuda")
    assert one.record.status == "done", one.record.error
    for array in arrays_of(cpu):
        np.testing.assert_array_equal(one.array(array), other.array(array))
        if method.verb != "make":
            largest = np.abs(cpu.array(array)).max()
            np.testing.assert_allclose(one.array(array), cpu.array(array), atol=1e-3 * largest)
    for image in sorted(name for panel in cpu.record.panels for name in panel.reads().images):
        np.testing.assert_array_equal(one.image(image), other.image(image))


NEEDS_GRADIENTS = "needs gradients, and tiny-file is an ONNX file: "
WITH_GRADIENTS = "adversarial ascent dream fooling gradcam guided inversion robustness saliency style texture trust"
OF_CLASSES = "adversarial ascent classify compare fooling gradcam occlusion robustness saliency trust"
REFUSALS = {
    "file": dict.fromkeys(WITH_GRADIENTS.split(), NEEDS_GRADIENTS),
    "bgr": dict.fromkeys(OF_CLASSES.split(), "has no classes"),
}
"""By network, the methods that refuse it, each with a part of the line that it says: the ONNX file has no gradients,
and the network "bgr" returns features. Every other method runs."""


@pytest.mark.parametrize("network", [*OTHERS, "file"])
@pytest.mark.parametrize("name", sorted(methods()))
def test_every_method_bears_other_inputs_and_outputs(name: str, network: str, store: Store, photos: Path) -> None:
    """It runs on a photo of 16-bit grey, or says in one line why it cannot."""
    from fovea.models.zoo import load

    method = methods()[name]
    options = small_options(name, photos, load(f"tiny-{network}").card)
    image = photos / "grey" / "grey.png"
    image.parent.mkdir(exist_ok=True)
    Image.fromarray(np.arange(40 * 52, dtype=np.uint16).reshape(40, 52) * 31).save(image)
    request = Request(
        method=name,
        network=f"tiny-{network}",
        image=str(image) if method.photo else None,
        options=options,
        device="cpu",
        provider="cpu",
    )
    try:
        record = execute(request, store, fresh=True)
    except FoveaError as error:
        refused = str(error)
    else:
        refused = record.error or ""
    assert "\n" not in refused
    # What the graph's runtime or Python itself says is no answer: a refusal tells what to do instead.
    assert not re.match(r"\w+Error: |.*the graph does not run", refused)
    expected = REFUSALS.get(network, {}).get(name, "")
    assert (expected in refused) if expected else not refused, refused
    if refused:
        return
    assert record.status == "done"
    run = store.run(record.id)
    for array in arrays_of(run):
        assert np.isfinite(run.array(array)).all()


@pytest.mark.parametrize("name", sorted(methods()))
def test_every_method_refuses_nonsense_in_one_line(name: str, store: Store, photos: Path) -> None:
    method = methods()[name]
    image = str(photos / "0.png") if method.photo else None
    for kind, value in (
        (LayerKind, "no-such-layer"),
        (LayersKind, "no-such-layer"),
        (ClassKind, "no-such-class"),
        (ClassesKind, "no-such-class"),
        (NetworksKind, "no-such-network"),
    ):
        for option in method.options.names(kind):
            request = Request(method=name, network="tiny-residual", image=image, options={option: value})
            with pytest.raises(FoveaError, match="no-such") as caught:
                execute(request, store, fresh=True)
            assert "\n" not in str(caught.value)
    with pytest.raises(FoveaError):
        execute(Request(method=name, network="tiny-residual", image=image, options={"no_such_option": 1}), store)
