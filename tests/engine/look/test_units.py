"""Units alike in weight and in activation equal cosines and correlations taken one by one."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fovea.engine.look.units import METHOD, most_alike, standardised
from fovea.engine.method import Job
from tests.networks.modules import Tiny
from tests.networks.tiny import TinyNetwork, exported_network
from tests.oracles.look_patches import MemoryDataset


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> TinyNetwork:
    return exported_network(tmp_path_factory.mktemp("alike"), Tiny(), size=(16, 20))


def run(network: Any, **options: Any) -> tuple[Job, Any]:
    rng = np.random.default_rng(0)
    photos = {f"p{n}": Image.fromarray(rng.integers(0, 256, (16, 20, 3), dtype=np.uint8)) for n in range(9)}
    parsed = METHOD.options.parse(options)
    METHOD.verify(network.card, parsed)
    job = Job(network=network, options=parsed, provider="cpu", open_dataset=lambda name: MemoryDataset(photos))
    return job, METHOD.run(job)


def test_weights_are_those_of_the_layer_before(network: TinyNetwork, own_home: Path) -> None:
    _, result = run(network, layer="pool", top=3)
    weights = network.module().first.weight.detach().numpy().reshape(6, -1).astype(np.float64)
    table = result.tables["weight_neighbors"]
    for unit in range(6):
        cosine = weights @ weights[unit] / np.linalg.norm(weights, axis=1) / np.linalg.norm(weights[unit])
        cosine[unit] = -np.inf
        mine = table[table["unit"] == unit]
        assert mine["other"].tolist() == np.argsort(-cosine)[:3].tolist()
        np.testing.assert_allclose(mine["cosine"], np.sort(cosine)[::-1][:3], atol=1e-6)


@pytest.mark.parametrize("count", [4, 40])
def test_correlations_equal_numpys(count: int) -> None:
    vectors = np.random.default_rng(0).normal(size=(count, 7)).astype(np.float32)
    vectors[:, 5] = 3
    table = most_alike(standardised(SimpleNamespace(vectors=vectors)), 4, "correlation")  # type: ignore[arg-type]
    assert 5 not in set(table["unit"]) | set(table["other"])
    with np.errstate(invalid="ignore", divide="ignore"):
        wanted = np.corrcoef(vectors.astype(np.float64).T)
    for row in table.itertuples():
        assert row.correlation == pytest.approx(wanted[row.unit, row.other], abs=1e-6)
    assert (table.groupby("unit").size() == 4).all()


def test_co_activation_of_a_layer(network: TinyNetwork, own_home: Path) -> None:
    _, result = run(network, layer="relu")
    assert set(result.tables["coactive"].columns) == {"layer", "unit", "rank", "other", "correlation"}
    assert result.summary["images"] == 9
    _, result = run(network)
    assert result.summary["layer"] in [layer.name for layer in network.card.layers]
    np.testing.assert_allclose(np.diag(result.arrays["correlations"]), 1, atol=1e-5)
