"""The best classes are the softmax of what torch says, best first."""

from __future__ import annotations

import numpy as np
import pytest

from fovea.engine.errors import UnsupportedError
from fovea.engine.look.classify import METHOD
from fovea.engine.method import Job
from fovea.models.zoo import load

NETWORK = "torchvision:squeezenet1_1@random"


def test_classes_equal_the_softmax_of_torch() -> None:
    import torch

    from fovea.engine.data.photos import open_photo

    network = load(NETWORK)
    job = Job(network=network, options=METHOD.options.parse({"top": 7}), photo=open_photo("sample:coffee"))
    result = METHOD.run(job)
    with torch.no_grad():
        logits = network.module("cpu")(torch.from_numpy(job.input))[0].double()
    probabilities = logits.softmax(0).numpy()
    table = result.tables["classes"]
    assert list(table.columns) == ["rank", "class", "index", "probability", "logit"]
    assert list(table["rank"]) == [1, 2, 3, 4, 5, 6, 7]
    assert table["probability"].is_monotonic_decreasing
    np.testing.assert_allclose(table["probability"], probabilities[table["index"]], rtol=1e-4)
    np.testing.assert_allclose(table["logit"], logits.numpy()[table["index"]], rtol=1e-4)
    np.testing.assert_allclose(table["probability"].iloc[0], probabilities.max(), rtol=1e-4)
    assert [network.card.classes[index] for index in table["index"]] == list(table["class"])
    assert job.ran["provider"]


def test_a_network_without_classes_is_refused() -> None:
    card = load(NETWORK).card.model_copy(update={"classes": ()})
    with pytest.raises(UnsupportedError, match="no classes"):
        METHOD.verify(card, METHOD.options())
