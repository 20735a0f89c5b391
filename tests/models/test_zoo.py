"""Which networks exist, how one's own is registered, and what each mistake says."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from fovea.models import builders, registry, zoo
from fovea.models.card import Preprocessing
from fovea.models.errors import NetworkError, UnknownNameError, WeightsError
from fovea.models.weights import TORCHVISION_WEIGHTS
from tests.networks.modules import Twice

NET = """
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self, num_classes=3, width=4):
            super().__init__()
            self.conv = nn.Conv2d(3, width, 3)
            self.fc = nn.Linear(width, num_classes)

        def forward(self, x):
            return self.fc(self.conv(x).relu().mean((2, 3)))

    def no_module():
        return 3

    def needs_depth(depth):
        assert depth < 9, f"too deep: {depth}"
        return Net(width=depth)
"""


@pytest.fixture
def folder(own_home: Path) -> Path:
    """A home whose folder holds a user's own `models/net.py`, weights and class names."""
    (own_home / "models").mkdir(parents=True)
    (own_home / "models" / "net.py").write_text(textwrap.dedent(NET))
    (own_home / "classes.txt").write_text("cat\ndog\nfish\n")
    torch.manual_seed(0)
    state = {
        "conv.weight": torch.randn(4, 3, 3, 3),
        "conv.bias": torch.zeros(4),
        "fc.weight": torch.randn(3, 4),
        "fc.bias": torch.zeros(3),
    }
    save_file(state, own_home / "own.safetensors")
    return own_home


def test_listing_imports_no_torch(own_home: Path) -> None:
    code = (
        "import sys; from fovea.models import zoo; n = zoo.known_networks(); zoo.cached_card('torchvision:resnet18');"
        "heavy = ('torch', 'torchvision', 'onnxruntime', 'onnx', 'timm');"
        "print(len(n), n[0].name, [m for m in heavy if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "81 fovea []"


def test_the_table_is_torchvisions_own() -> None:
    torchvision = builders.torchvision_models()
    module = sys.modules["torchvision.models"]
    own = {
        name: tuple(m for m in torchvision.get_model_weights(name).__members__ if m != "DEFAULT")
        for name in torchvision.list_models(module=module)
    }
    assert own == TORCHVISION_WEIGHTS


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("torchvision:resnet81", "did you mean torchvision:resnet"),
        ("resnet18", "did you mean torchvision:resnet18?"),
        ("fove", "did you mean fovea?"),
        ("torchvision:resnet18@IMAGENET1K_V9", "did you mean IMAGENET1K_V1"),
        ("onnx:/nowhere/net.onnx", "no ONNX file at /nowhere/net.onnx"),
        ("timm:mobilenetv2_1000", "did you mean timm:mobilenetv2_"),
        ("nothing:like-this", "no network named"),
    ],
)
def test_unknown_names_offer_near_ones(name: str, line: str) -> None:
    if name.startswith("timm:"):
        pytest.importorskip("timm")
    with pytest.raises((UnknownNameError, NetworkError)) as caught:
        zoo.load(name)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_own_network_from_file_to_card(folder: Path) -> None:
    registry.register(
        "own",
        architecture="models/net.py:Net",
        weights="own.safetensors",
        classes="classes.txt",
        input={
            "size": [24, 40],
            "resize": 28,
            "mean": [0.5, 0.5, 0.5],
            "std": [0.5, 0.5, 0.5],
            "interpolation": "bicubic",
        },
        arguments={"width": 4},
        title='Nets of "M\u00fcnchen"\\',
    )
    assert zoo.cached_card("own") is None
    network = zoo.load("own")
    card = network.card
    assert card.classes == ("cat", "dog", "fish")
    assert card.preprocessing.size == (24, 40)
    assert card.title == 'Nets of "M\u00fcnchen"\\'
    assert not card.random
    assert [x.name for x in card.layers] == ["conv", "fc"]
    assert zoo.cached_card("own") == card
    assert zoo.load("own") is network
    assert "own" in [n.name for n in zoo.known_networks()]
    assert "models" not in sys.modules

    module = network.module()
    assert not module.training
    assert not any(p.requires_grad for p in module.parameters())

    registry.unregister("own")
    assert registry.registered() == {}
    with pytest.raises(UnknownNameError):
        zoo.load("own")


def test_weights_changed_on_disk_are_not_served_stale(folder: Path) -> None:
    registry.register("own", architecture="models/net.py:Net", weights="own.safetensors")
    before = zoo.load("own").card.sha256
    state = {k: v + 1 for k, v in zoo.load("own").module().state_dict().items()}
    (folder / "own.safetensors").unlink()
    save_file(state, folder / "own.safetensors")
    assert zoo.cached_card("own") is None
    assert zoo.load("own").card.sha256 != before


def test_without_weights_it_is_random_and_says_so(folder: Path) -> None:
    registry.register("own", architecture="models/net.py:Net")
    card = zoo.load("own").card
    assert card.random
    assert any("random" in note for note in card.notes)
    zoo.forget()
    assert zoo.load("own").card.sha256 == card.sha256


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"architecture": "resnet18"}, "must be torchvision:NAME"),
        ({"architecture": "models/net.py:Net", "weight": "x"}, "no field 'weight'"),
        ({"architecture": "models/net.py:Net", "weights": "none.pt"}, "no file at"),
        ({"architecture": "models/net.py:Net", "output": "logit"}, "must be one of logits, probabilities, sigmoid"),
        ({"architecture": "models/net.py:Net", "input": {"sise": 3}}, "input has no field 'sise'"),
        ({"architecture": "models/net.py:Net", "input": {"interpolation": "cubic"}}, "did you mean bicubic"),
        ({"architecture": "models/net.py:Net", "input": {"channels": 2}}, "must be 1, 3 or 4"),
        (
            {"architecture": "models/net.py:Net", "input": {"mean": [0.5]}},
            "mean has 1 values, but the input has 3 channels",
        ),
        ({"architecture": "models/net.py:Net", "input": {"order": "GBR"}}, "order"),
        ({"architecture": "models/net.py:Nett"}, "did you mean Net?"),
        ({"architecture": "models/nett.py:Net"}, "no Python file at"),
        ({"architecture": "no.such.package:Net"}, "No module named 'no'"),
        (
            {"architecture": "models/net.py:no_module"},
            "returned an object of type int: it must return a torch.nn.Module",
        ),
        ({"architecture": "models/net.py:Net", "arguments": {"depth": 3}}, "cannot be built with arguments"),
        ({"architecture": "models/net.py:needs_depth"}, "without arguments: needs_depth() missing 1 required"),
        ({"architecture": "models/net.py:needs_depth"}, "'depth' (give what it needs as --argument NAME=VALUE)"),
        ({"architecture": "models/net.py:needs_depth", "arguments": {"depth": 9}}, "{'depth': 9}: too deep: 9"),
        ({"architecture": "timm:resnet18", "arguments": {"depth": 9}}, "timm:resnet18 cannot be built with arguments"),
        ({"architecture": "models/net.py:Net", "classes": "two.txt"}, "gives 3 scores, but 2 class names were given"),
        (
            {"architecture": "models/net.py:Net", "input": {"channels": 1}},
            "does not run on an input of shape (1, 224, 224)",
        ),
        ({"architecture": "torchvision:resnet81"}, "did you mean torchvision:resnet"),
    ],
)
def test_mistakes_in_a_registration(folder: Path, fields: dict[str, object], line: str) -> None:
    (folder / "two.txt").write_text("one\ntwo\n")

    def register_and_load() -> None:
        registry.register("own", **fields)
        zoo.load("own")

    with pytest.raises((NetworkError, UnknownNameError)) as caught:
        register_and_load()
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["fovea", "a:b", "", "../x", "with space"])
def test_names_that_cannot_be(own_home: Path, name: str) -> None:
    with pytest.raises(NetworkError, match="cannot be the name of a network"):
        registry.register(name, architecture="torchvision:resnet18")


def test_a_broken_networks_toml_is_one_line(own_home: Path) -> None:
    own_home.mkdir()
    (own_home / "networks.toml").write_text("[networks.x\n")
    with pytest.raises(NetworkError, match=r"networks\.toml is not valid TOML"):
        zoo.known_networks()


def test_other_channels_ranges_and_orders(folder: Path) -> None:
    registry.register("own", architecture="models/net.py:Net", input={"size": 32, "range": [-1, 1], "order": "BGR"})
    preprocessing = zoo.load("own").card.preprocessing
    low, high = preprocessing.value_limits()
    assert (low == -1).all()
    assert (high == 1).all()
    assert preprocessing.order == "BGR"


def test_imagenet_stands_for_its_class_names(folder: Path) -> None:
    registry.register("own", architecture="models/net.py:Net", classes="imagenet", arguments={"num_classes": 1000})
    names = zoo.load("own").card.classes
    assert (len(names), names[0], names[285]) == (1000, "tench", "Egyptian cat")


def test_features_have_no_classes(folder: Path) -> None:
    registry.register("own", architecture="models/net.py:Net", output="features", input={"size": 32})
    assert zoo.load("own").card.classes == ()


def test_weights_that_cannot_be_downloaded(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_connection(*_: object, **__: object) -> None:
        raise OSError("no connection")

    monkeypatch.setattr("urllib.request.urlopen", no_connection)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(own_home / "hub"))
    with pytest.raises(WeightsError) as caught:
        zoo.load("torchvision:squeezenet1_1")
    assert "squeezenet1_1-b8a52dc0.pth could not be downloaded (no connection): download https://" in str(caught.value)
    assert str(own_home / "hub" / "checkpoints") in str(caught.value)


def test_inplace_is_off(own_home: Path) -> None:
    module = builders.finish(
        "x", builders.Built(Twice(), "", "", Preprocessing(size=(8, 8)), (), "random"), None
    ).module()
    assert not module.relu.inplace  # type: ignore[union-attr]
