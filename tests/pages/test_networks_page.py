"""The page of networks: cards, adding from an upload with its one line when it goes wrong, check, remove."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from fovea.engine.data.uploads import (
    check_architecture,
    check_new_name,
    keep_classes,
    keep_weights,
    remove_network,
)
from fovea.engine.errors import FoveaError, NetworkError, OptionsError, UnknownNameError, WeightsError
from fovea.models import registry, zoo
from tests.pages.conftest import NETWORK

Open = Callable[..., Any]
ARCHITECTURE = "torchvision:squeezenet1_1"


def lines(app: Any) -> str:
    """All red lines of a page."""
    return "\n".join(str(error.value) for error in app.error).replace("\\", "")


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """squeezenet1_1 with a head of four classes."""
    module = zoo.load(NETWORK).module("cpu")
    found = {name: value.clone() for name, value in module.state_dict().items()}
    head = found["classifier.1.weight"]
    return found | {"classifier.1.weight": head[:4].clone(), "classifier.1.bias": torch.zeros(4)}


@pytest.fixture(scope="module")
def weights(state: dict[str, torch.Tensor]) -> bytes:
    """The same as safetensors."""
    return save(state)


def add(app: Any, name: str, weights: bytes | None, classes: bytes | None = None, file: str = "mine.pth") -> Any:
    """Fill the form and press its button."""
    app.text_input(key="networks:name:0").set_value(name)
    app.selectbox(key="networks:architecture:0").set_value(ARCHITECTURE)
    uploads = {one.label.split()[0]: one for one in app.get("file_uploader")}
    if weights is not None:
        uploads["Weights"].set_value((file, weights, "application/octet-stream"))
    if classes is not None:
        uploads["Class"].set_value(("classes.txt", classes, "text/plain"))
    app.run()
    return app.button(key="networks:add").click().run()


def test_the_card_lists_layers_with_what_they_see(open_page: Open) -> None:
    app = open_page("networks")
    assert not app.exception
    assert not app.error
    assert app.title[0].value == "Networks"
    layers = next(table.value for table in app.dataframe if "sees" in table.value)
    first = layers.iloc[0]
    assert (first["layer"], first["kind"], first["gives"]) == ("features.0", "Conv2d", "64 × 111 × 111")
    assert (first["units"], first["parameters"], first["sees"], first["stride"]) == (64, 1792, "3 × 3 px", "2 px")
    assert any("python -m engine networks add" in str(code.value) for code in app.code)


def test_weights_are_added_used_and_removed(open_page: Open, own_home: Path, weights: bytes) -> None:
    app = add(open_page("networks"), "mine", weights, b"cat\ndog\nbird\nboat\n")
    assert not app.exception
    assert not app.error
    assert any("mine is registered" in str(note.value) for note in app.success)
    card = zoo.cached_card("mine")
    assert card is not None
    assert card.classes == ("cat", "dog", "bird", "boat")
    assert card.weights == "mine.safetensors"
    kept = list((own_home / "weights").rglob("*.*"))
    assert sorted(path.name for path in kept) == ["classes.txt", "mine.safetensors"]
    app.button(key="networks:use").click().run()
    assert app.query_params["network"] in ("mine", ["mine"])
    app = open_page("networks", network="mine")
    app.button(key="networks:remove").click().run()
    assert not app.exception
    assert "mine" not in registry.registered()
    assert not list((own_home / "weights").rglob("*.*"))


def test_kept_weights_for_a_timm_architecture(own_home: Path) -> None:
    import fovea.models.torchvision_compat  # noqa: F401 - before timm, which imports torchvision

    timm = pytest.importorskip("timm")

    module = timm.create_model("test_resnet", num_classes=4)
    file = keep_weights(io.BytesIO(save(module.state_dict())), "small.safetensors")
    registry.register("small", architecture=check_architecture("timm:test_resnet"), weights=str(file))
    zoo.load("small")
    card = zoo.cached_card("small")
    assert card is not None
    assert card.architecture == "timm:test_resnet"
    assert len(card.classes) == 4
    assert card.preprocessing.size == tuple(module.pretrained_cfg["input_size"][1:])


def test_mistakes_are_one_line_and_change_nothing(
    open_page: Open, own_home: Path, weights: bytes, state: dict[str, torch.Tensor]
) -> None:
    other = save({"conv1.weight": torch.zeros(2, 3, 3, 3)})
    evil = b"\x80\x02cposix\nsystem\nX\x04\x00\x00\x00true\x85R."
    cases = [
        (("", weights, None), "name must be given"),
        (("mine", None, None), "Weights must be given"),
        (("../x", weights, None), "cannot be the name of a network"),
        (("mine", evil, None), "pickle that would run code (posix.system)"),
        (("mine", other, None), "are not for torchvision:squeezenet1_1"),
        (("mine", weights, b"cat\ndog\n"), "4 scores, but 2 class names were given"),
        (("mine", b"no weights at all", None), "cannot be read as safetensors"),
    ]
    for given, told in cases:
        app = add(open_page("networks"), *given)
        assert not app.exception, told
        assert told in lines(app)
        assert len(app.error) == 1, told
        assert "mine" not in registry.registered()
        assert not list((own_home / "weights").rglob("*.*")), told


def test_safetensors_whose_header_begins_as_a_pickle_are_safetensors(own_home: Path) -> None:
    weights = save({"a.weight": torch.zeros(3, 3), "b.bias": torch.zeros(4)})
    assert weights[0] == 0x80
    assert keep_weights(io.BytesIO(weights), "mine.bin").suffix == ".safetensors"


def test_only_torchvision_and_timm_are_built_from_a_page() -> None:
    assert check_architecture("timm:resnet18.a1_in1k") == "timm:resnet18.a1_in1k"
    with pytest.raises(UnknownNameError, match="torchvision:resnet18"):
        check_architecture("torchvision:resnet19")
    for name in ("/tmp/net.py:Net", "os:system", "timm:hf-hub:some/one", "onnx:/etc/passwd", ""):
        with pytest.raises(NetworkError, match="networks add"):
            check_architecture(name)


def test_uploads_are_kept_by_content_and_bounded(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = keep_weights(io.BytesIO(b"PK\x03\x04 of torch"), "../../evil name.safetensors")
    assert first.name == "evil_name.pt"
    assert first.parent.parent == own_home / "weights"
    assert keep_weights(io.BytesIO(b"PK\x03\x04 of torch"), "evil name.bin") == first
    monkeypatch.setattr("fovea.engine.data.uploads.CLASSES_BYTES", 4)
    with pytest.raises(WeightsError, match="larger than"):
        keep_classes(io.BytesIO(b"a\nb\nc\n"), "classes.txt")
    with pytest.raises(WeightsError, match="empty"):
        keep_weights(io.BytesIO(b""), "none.pt")
    assert [path.name for path in (own_home / "weights").rglob("*.*")] == [first.name]


def test_names_are_not_taken_twice_and_files_stay_while_used(own_home: Path, weights: bytes) -> None:
    file = keep_weights(io.BytesIO(weights), "mine.safetensors")
    for name in ("one", "two"):
        registry.register(name, architecture=ARCHITECTURE, weights=str(file))
    with pytest.raises(OptionsError, match="registered already"):
        check_new_name("one")
    remove_network("one")
    assert file.is_file()
    remove_network("two")
    assert not file.exists()
    with pytest.raises(FoveaError, match="no registered network"):
        remove_network("two")


def test_a_check_is_a_run_shown_on_the_page(open_page: Open) -> None:
    app = open_page("networks")
    app.button(key="networks:check").click().run()
    assert not app.exception
    assert not app.error
    assert any("layer by layer" in str(head.value) for head in app.subheader)
    compared = next(table.value for table in app.dataframe if "agrees" in table.value)
    assert compared["agrees"].all()
