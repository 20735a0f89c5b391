"""What is known of a network's size before it is read, and how many stay loaded."""

from __future__ import annotations

import pytest
from safetensors.torch import save_file
from torch import zeros

from fovea.models import builders, registry, sizes, zoo


def test_the_table_is_torchvisions_own() -> None:
    torchvision = builders.torchvision_models()
    own = {
        name: max(1, round(torchvision.get_model_weights(name).DEFAULT.meta["num_params"] * 4 / 1e6))
        for name in sizes.TORCHVISION_MB
    }
    assert own == sizes.TORCHVISION_MB
    assert set(own) == set(zoo.TORCHVISION_WEIGHTS)


def test_the_size_of_what_was_never_read(own_home: object) -> None:
    assert sizes.weights_bytes("torchvision:regnet_y_128gf") == 2579 * 10**6
    assert sizes.weights_bytes("torchvision:squeezenet1_1@random") == 5 * 10**6
    assert (sizes.weights_bytes("fovea") or 0) > 10**5
    assert sizes.weights_bytes("timm:resnet18") is None
    zoo.home().mkdir(parents=True, exist_ok=True)
    save_file({"w": zeros(1000)}, zoo.home() / "own.safetensors")
    registry.register("own", architecture="torchvision:resnet18", weights=str(zoo.home() / "own.safetensors"))
    assert 4000 < (sizes.weights_bytes("own") or 0) < 5000


def test_loaded_networks_have_a_budget_of_bytes(own_home: object, monkeypatch: pytest.MonkeyPatch) -> None:
    zoo.forget()
    names = [f"torchvision:{name}@random" for name in ("squeezenet1_1", "squeezenet1_0", "shufflenet_v2_x0_5")]
    first = zoo.load(names[0])
    for name in names[1:]:
        zoo.load(name)
    assert zoo.load(names[0]) is first
    monkeypatch.setattr(sizes, "memory_bytes", lambda: 4 * 3 * 8 * first.card.parameters)  # room for three of the first
    kept = [f"torchvision:{name}@random" for name in ("mnasnet0_5", "mobilenet_v3_small")]
    for name in kept:
        zoo.load(name)
    assert [network.name for network in zoo._loaded.values()] == [names[0], *kept][-len(zoo._loaded) :]
    assert sizes.over_budget([first.card] * 4)
    assert not sizes.over_budget([first.card] * 3)
    zoo.forget()
