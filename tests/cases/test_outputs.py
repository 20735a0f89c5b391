"""What a network's output means: however it ends and whatever holds it, its own probability is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fovea.engine.errors import UnsupportedError
from fovea.engine.method import Job, find_method
from fovea.engine.scores import class_score
from fovea.models import zoo
from fovea.models.errors import NO_GRADIENT, NetworkError, UnknownNameError
from fovea.models.network import Network
from tests.cases.conftest import images

HEAD = """
import collections, dataclasses, math, types, typing
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


class Base(nn.Module):
    def __init__(self, width={width}):
        super().__init__()
        torch.manual_seed(3)
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.fc = nn.Linear(16, width)
        with torch.no_grad():
            for p in self.parameters():
                if p.dim() > 1:
                    p.mul_(3)

    def features(self, x):
        return F.relu(self.conv2(F.relu(self.conv1(x)))).mean((2, 3))

    def scores(self, x):
        return self.fc(self.features(x))


class Net(Base):
{body}


def build():
    net = Net()
    net.load_state_dict(net.state_dict())
    return net
"""


@pytest.fixture
def user(write: Callable[[str, str], Path], bring: Callable[..., Network]) -> Callable[..., Network]:
    """`user(body, width, **fields)`: a user's network with that forward, registered and loaded."""

    def make(body: str, width: int = 5, **fields: Any) -> Network:
        if not body.lstrip().startswith(("def", "@", "class")):
            body = f"def forward(self, x):\n    {body}"
        indented = "\n".join(f"    {line}" for line in body.strip("\n").splitlines())
        code = HEAD.replace("{width}", str(width)).replace("{body}", indented)
        path = write("net.py", code)
        return bring(architecture=f"{path}:build", **fields)

    return make


def plain(network: Network) -> Any:
    """The user's module as it is, without ours."""
    import copy

    from fovea.models.torch_output import read_as

    return read_as(copy.deepcopy(network.module()))


def job_of(network: Network, method: str, **options: Any) -> Job[Any]:
    """A job on the first of `images`, as a photo that gives exactly that input."""
    frame = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    from PIL import Image

    return Job(network, find_method(method).options.parse(options), photo=Image.fromarray(frame))


def told(network: Network) -> dict[str, float]:
    """What classify says: class to probability."""
    job = job_of(network, "classify", top=100)
    table = find_method("classify").run(job).tables["classes"]
    return dict(zip(table["class"], table["probability"], strict=True))


def own(network: Network, read: Callable[[Any], Tensor]) -> Tensor:
    """The module's own probabilities (classes,) of the same photo."""
    job = job_of(network, "classify")
    with torch.no_grad():
        return read(plain(network)(torch.from_numpy(job.input))).flatten().double()


def check(network: Network, read: Callable[[Any], Tensor], atol: float = 1e-5) -> None:
    """That classify, torch and ONNX give the module's own probabilities."""
    from fovea.engine.make.judge.classifier import RuntimeClassifier, TorchClassifier

    want = own(network, read).numpy()
    said = told(network)
    got = np.array([said[name] for name in network.card.classes])
    np.testing.assert_allclose(got, want, atol=atol)
    job = job_of(network, "classify")
    for ask in (RuntimeClassifier(job), TorchClassifier(job)):
        np.testing.assert_allclose(ask(job.frame[None])[0], want, atol=atol)


# --- ends --------------------------------------------------------------------------------------------------------

SOFTMAX = {
    "functional": "return F.softmax(self.scores(x), 1)",
    "method": "return self.scores(x).softmax(-1)",
    "torch": "return torch.softmax(self.scores(x), dim=1)",
    "module": "return nn.Softmax(dim=1)(self.scores(x))",
    "half and back": "return self.scores(x).softmax(1).double().float()",
    "clamped": "return self.scores(x).softmax(1).clamp(1e-7, 1 - 1e-7)",
    "maps": "return self.scores(x)[:, :, None, None].softmax(1)",
    "spelled out": "z = self.scores(x)\n    e = (z - z.amax(1, keepdim=True)).exp()\n"
    "    return e / e.sum(1, keepdim=True)",
    "exp of logarithms": "return F.log_softmax(self.scores(x), 1).exp()",
    "logsumexp": "z = self.scores(x)\n    return (z - z.logsumexp(1, keepdim=True)).exp()",
    "average": "z = self.scores(x)\n    return (z.softmax(1) + (2 * z).softmax(1)) / 2",
    "numpy": "z = self.scores(x).detach().numpy()\n    e = np.exp(z - z.max(1, keepdims=True))\n"
    "    return torch.from_numpy(e / e.sum(1, keepdims=True))",
    "no_grad": "with torch.no_grad():\n        return self.scores(x).softmax(1)",
    "two sides": "p = self.scores(x)[:, :1].sigmoid()\n    return torch.cat([1 - p, p], 1)",
    "normalised": "z = F.softplus(self.scores(x))\n    return F.normalize(z, p=1, dim=1)",
}


@pytest.mark.parametrize("body", SOFTMAX.values(), ids=SOFTMAX)
def test_probabilities_are_taken_as_they_are(user: Callable[..., Network], body: str) -> None:
    network = user(body)
    assert network.card.output == "probabilities"
    assert any("probabilities of classes" in note and "--output" in note for note in network.card.notes)
    check(network, lambda value: value)


SIGMOID = {
    "method": "return self.scores(x).sigmoid()",
    "functional": "return F.sigmoid(self.scores(x))",
    "module": "return nn.Sigmoid()(self.scores(x))",
    "reshaped": "return torch.sigmoid(self.scores(x)).reshape(-1, 5, 1)",
    "spelled out": "return 1 / (1 + torch.exp(-self.scores(x)))",
    "tanh": "return (torch.tanh(self.scores(x) / 2) + 1) / 2",
    "tanh halved": "return 0.5 * torch.tanh(0.5 * self.scores(x)) + 0.5",
    "exp over": "e = self.scores(x).exp()\n    return e / (1 + e)",
    "heads": "z = self.scores(x)\n    return torch.cat([z[:, i : i + 1].sigmoid() for i in range(5)], 1)",
    "clamped": "return self.scores(x).sigmoid().clamp(0.001, 0.999)",
    "hard": "return F.hardsigmoid(self.scores(x))",
}


@pytest.mark.parametrize("body", SIGMOID.values(), ids=SIGMOID)
def test_several_labels_have_probabilities_of_their_own(user: Callable[..., Network], body: str) -> None:
    network = user(body)
    assert network.card.output == "sigmoid"
    check(network, lambda value: value)
    with pytest.raises(UnsupportedError, match="no one class"):
        find_method("adversarial").verify(network.card, find_method("adversarial").options.parse({}))


def test_logits_of_several_labels_are_declared(user: Callable[..., Network]) -> None:
    network = user("return self.scores(x)", output="sigmoid_logits")
    check(network, torch.sigmoid)


@pytest.mark.parametrize(
    "body",
    [
        "return F.log_softmax(self.scores(x), 1)",
        "return nn.LogSoftmax(1)(self.scores(x))",
        "return self.scores(x).softmax(1).log()",
    ],
)
def test_logarithms_of_probabilities_are_logits(user: Callable[..., Network], body: str) -> None:
    network = user(body)
    assert network.card.output == "logits"
    assert any("logarithm" in note for note in network.card.notes)
    check(network, torch.exp)


PLAIN = {
    "scores": "return self.scores(x)",
    "softmax inside": "a = self.features(x).softmax(1)\n    return self.fc(a * 16)",
    "sigmoid gate": "f = self.features(x)\n    return self.fc(f * torch.sigmoid(f))",
    "scaled sigmoid": "return 10 * self.scores(x).sigmoid()",
}


@pytest.mark.parametrize("body", PLAIN.values(), ids=PLAIN)
def test_logits_stay_logits(user: Callable[..., Network], body: str) -> None:
    network = user(body)
    assert network.card.output == "logits"
    check(network, lambda value: value.softmax(1))


def test_what_cannot_be_told_is_told_with_the_option(user: Callable[..., Network]) -> None:
    network = user("return self.scores(x).clamp(0, 1)")
    note = next(note for note in network.card.notes if note.startswith("Output:"))
    assert network.card.output == "logits"
    assert "uncertain" in note
    assert "--output sigmoid" in note


def test_what_is_declared_is_taken(user: Callable[..., Network]) -> None:
    network = user("return self.scores(x)", output="probabilities")
    assert network.card.output == "probabilities"
    assert any("as registered" in note for note in network.card.notes)


# --- one number ----------------------------------------------------------------------------------------------------

ONE_LOGIT = {
    "column": "return self.scores(x)",
    "row": "return self.scores(x)[:, 0]",
    "squeezed": "return self.scores(x).squeeze(1)",
    "squeezed wholly": "return self.scores(x).squeeze()",
    "map": "return self.scores(x)[:, :, None, None]",
    "in a tuple": "return (self.scores(x),)",
    "in a dict": "return {'score': self.scores(x).view(-1)}",
}


@pytest.mark.parametrize("names", [(), ("no", "yes")], ids=["unnamed", "named"])
@pytest.mark.parametrize("body", ONE_LOGIT.values(), ids=ONE_LOGIT)
def test_one_logit_has_two_sides(user: Callable[..., Network], body: str, names: tuple[str, ...]) -> None:
    network = user(body, 1, classes=",".join(names))
    assert network.card.output == "binary"
    assert network.card.classes == (names or ("class 0", "class 1"))
    check(network, lambda value: two_sides(torch.sigmoid(one_of(value))))
    logit = float(one_of(plain(network)(torch.from_numpy(job_of(network, "classify").input))))
    output = network.module()(torch.from_numpy(job_of(network, "classify").input))
    for side, sign in ((0, -1), (1, 1)):
        score = class_score(network.card, output, f"#{side}", "logit")
        assert float(score.of(output)[0]) == pytest.approx(sign * logit, rel=1e-5)


ONE_PROBABILITY = {
    "column": "return self.scores(x).sigmoid()",
    "row": "return torch.sigmoid(self.scores(x))[:, 0]",
    "module": "return nn.Sigmoid()(self.scores(x)).squeeze(-1)",
    "spelled out": "return 1 / (1 + torch.exp(-self.scores(x)))",
    "numpy": "z = self.scores(x).detach().numpy()\n    return torch.from_numpy(1 / (1 + np.exp(-z)))",
    "half a softmax": "z = self.scores(x)\n    return torch.cat([-z, z], 1).softmax(1)[:, 1]",
}


@pytest.mark.parametrize("body", ONE_PROBABILITY.values(), ids=ONE_PROBABILITY)
def test_one_probability_has_two_sides(user: Callable[..., Network], body: str) -> None:
    network = user(body, 1)
    assert network.card.output == "binary_probability"
    check(network, lambda value: two_sides(value))


def test_one_name_is_that_of_yes(user: Callable[..., Network], tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("crack\n", encoding="utf-8")
    assert user("return self.scores(x)", 1, classes=str(path)).card.classes == ("not crack", "crack")


def test_three_names_for_one_number_are_refused(user: Callable[..., Network]) -> None:
    with pytest.raises(NetworkError, match="names of no and of yes"):
        user("return self.scores(x)", 1, classes="a,b,c")


def test_declared_binary_is_a_probability_where_the_end_is_a_sigmoid(user: Callable[..., Network]) -> None:
    assert user("return self.scores(x).sigmoid()", 1, output="binary").card.output == "binary_probability"


@pytest.mark.parametrize("body", ["return self.scores(x)", "return self.scores(x).sigmoid()"])
@pytest.mark.parametrize("attack", ["fgsm", "pgd", "deepfool", "carlini_wagner"])
def test_attacks_cross_the_border_between_two_sides(user: Callable[..., Network], body: str, attack: str) -> None:
    network = user(body, 1)
    options = {"attack": attack} | ({"epsilon": "1"} if attack in ("fgsm", "pgd") else {"steps": 60})
    result = find_method("adversarial").run(job_of(network, "adversarial", **options))
    assert result.summary["before"] != result.summary["after"]
    assert result.summary["fooled"]


def test_occlusion_watches_the_own_probability(user: Callable[..., Network]) -> None:
    network = user("return self.scores(x)", 1)
    result = find_method("occlusion").run(job_of(network, "occlusion", window=4, stride=4, target="class 1"))
    assert float(result.summary["clean probability"]) == pytest.approx(float(own(network, torch.sigmoid)), abs=1e-5)
    assert np.abs(result.arrays["drop"]).max() > 0


def one_of(value: Any) -> Tensor:
    """The one number in what a module returned."""
    if isinstance(value, dict):
        value = next(iter(value.values()))
    return (value[0] if isinstance(value, tuple) else value).reshape(-1)[:1]


def two_sides(p: Tensor) -> Tensor:
    """The probabilities of no and of yes."""
    p = p.reshape(-1)[:1]
    return torch.cat([1 - p, p])


# --- containers ----------------------------------------------------------------------------------------------------

CONTAINERS = {
    "tuple, features first": ("f = self.features(x)\n    return f, self.fc(f)", lambda value: value[1]),
    "tuple, scores first": ("f = self.features(x)\n    return self.fc(f), f", lambda value: value[0]),
    "list of three": (
        "a = F.relu(self.conv1(x))\n    f = self.features(x)\n    return [a, f, self.fc(f)]",
        lambda value: value[2],
    ),
    "dict": ("f = self.features(x)\n    return {'embedding': f, 'logits': self.fc(f)}", lambda value: value["logits"]),
    "dict without names": ("f = self.features(x)\n    return {'a': f, 'b': self.fc(f)}", lambda value: value["b"]),
    "nested": (
        "f = self.features(x)\n    return {'aux': {'feats': f}, 'head': (f, self.fc(f))}",
        lambda value: value["head"][1],
    ),
    "named tuple": (
        "f = self.features(x)\n    return collections.namedtuple('Out', 'feat pred')(f, self.fc(f))",
        lambda value: value.pred,
    ),
    "dataclass": (
        "f = self.features(x)\n    kind = dataclasses.make_dataclass('Out', ['pooled', 'scores'])\n"
        "    return kind(f, self.fc(f))",
        lambda value: value.scores,
    ),
    "namespace": (
        "f = self.features(x)\n    return types.SimpleNamespace(feats=f, out=self.fc(f))",
        lambda value: value.out,
    ),
    "with an index": (
        "f = self.features(x)\n    z = self.fc(f)\n    return {'label': z.argmax(1), 'hidden': f, 'z': z}",
        lambda value: value["z"],
    ),
    "main and auxiliary": (
        "z = self.scores(x)\n    return {'aux': z * 2, 'out': z + 1}",
        lambda value: value["out"],
    ),
}


@pytest.mark.parametrize(("body", "read"), CONTAINERS.values(), ids=CONTAINERS)
def test_the_scores_of_several_outputs(user: Callable[..., Network], body: str, read: Callable[[Any], Tensor]) -> None:
    network = user(body)
    assert len(network.card.classes) == 5
    assert any("outputs" in note and "--output-name" in note for note in network.card.notes)
    assert [layer.name for layer in network.card.layers if layer.leaf][-1] == "fc"
    check(network, lambda value: read(value).softmax(1))


def test_logits_beside_their_probabilities(user: Callable[..., Network]) -> None:
    network = user("z = self.scores(x)\n    return z, z.softmax(1)")
    check(network, lambda value: value[1])


def test_the_class_list_tells_which(user: Callable[..., Network]) -> None:
    network = user("f = self.features(x)\n    return f[:, :3], self.fc(f)", classes="a,b,c")
    check(network, lambda value: value[0].softmax(1))


@pytest.mark.parametrize(("name", "path"), [("1", "[1]"), ("[1]", "[1]")])
def test_an_output_is_named(user: Callable[..., Network], name: str, path: str) -> None:
    network = user("f = self.features(x)\n    return self.fc(f), f[:, :4]", output_name=name)
    assert network.card.output_name == path
    assert len(network.card.classes) == 4
    check(network, lambda value: value[1].softmax(1))
    assert zoo.load("mine") is network


def test_a_wrong_name_of_an_output_is_told(user: Callable[..., Network]) -> None:
    with pytest.raises(UnknownNameError, match="logits"):
        user("f = self.features(x)\n    return {'emb': f, 'logits': self.fc(f)}", output_name="logit")


def test_a_network_that_returns_a_tensor_is_left_as_it_is(user: Callable[..., Network]) -> None:
    network = user("return self.scores(x)")
    assert "forward" not in vars(network.module())
    assert network.card.output_name == ""


def test_a_card_that_was_kept_reads_the_output_alike(user: Callable[..., Network]) -> None:
    network = user("f = self.features(x)\n    return f, self.fc(f).sigmoid()")
    zoo.forget()
    again = zoo.load("mine")
    assert again is not network
    assert again.card == network.card
    assert torch.equal(again.module()(images()), network.module()(images()))


# --- no function ---------------------------------------------------------------------------------------------------

RANDOM = {
    "dropout": "return self.fc(F.dropout(self.features(x), 0.5))",
    "rare dropout": "return self.fc(F.dropout(self.features(x), 0.05))",
    "feature dropout": "return self.fc(F.dropout2d(F.relu(self.conv2(self.conv1(x))), 0.5).mean((2, 3)))",
    "noise on the image": "return self.scores(x + 0.1 * torch.randn_like(x))",
    "numpy noise": "return self.scores(x + float(np.random.rand()))",
    "a module in training mode": "d = nn.Dropout(0.5)\n    d.train()\n    return self.fc(d(self.features(x)))",
    "drawn places": "return self.scores(x[:, :, torch.randperm(16)])",
}


@pytest.mark.parametrize("body", RANDOM.values(), ids=RANDOM)
def test_a_network_that_is_no_function_says_so(user: Callable[..., Network], body: str) -> None:
    network = user(body)
    assert network.card.varies
    assert any("differently each time" in note for note in network.card.notes)
    first, again = told(network), told(network)
    assert first == again
    x = torch.from_numpy(job_of(network, "classify").input)
    together = network.module()(torch.cat([x, x]))
    torch.testing.assert_close(together[:1], network.module()(x))
    torch.testing.assert_close(together[1:], together[:1])


def test_another_seed_draws_other_numbers(user: Callable[..., Network]) -> None:
    from fovea.models.torch_output import seed_noise

    network = user(RANDOM["dropout"])
    answers = []
    for seed in (0, 1, 0):
        seed_noise(seed)
        answers.append(network.module()(images()))
    seed_noise(0)
    assert torch.equal(answers[0], answers[2])
    assert not torch.equal(answers[0], answers[1])


def test_a_function_is_none_of_them(user: Callable[..., Network]) -> None:
    assert not user("y = torch.rand(3)\n    return self.scores(x)").card.varies


def test_a_network_with_a_state_says_so(user: Callable[..., Network]) -> None:
    network = user("self.count = getattr(self, 'count', 0) + 1\n    return self.scores(x) * self.count")
    assert network.card.varies
    assert any("state" in note for note in network.card.notes)


# --- gradients -----------------------------------------------------------------------------------------------------

OFF = {
    "no_grad": "with torch.no_grad():\n        return self.scores(x)",
    "decorated": "@torch.no_grad()\ndef forward(self, x):\n    return self.scores(x)",
    "inference mode": "with torch.inference_mode():\n        return self.scores(x)",
    "detached": "return self.fc(self.features(x).detach())",
    "backbone": "with torch.no_grad():\n        f = self.features(x)\n    return self.fc(f)",
    "backbone in inference mode": "with torch.inference_mode():\n        f = self.features(x)\n"
    "    return self.fc(f.clone())",
    "numpy": "return torch.from_numpy(self.scores(x).detach().numpy())",
    "numpy of a gradient": "return torch.from_numpy(self.scores(x).numpy())",
    "copied": "return torch.tensor(self.scores(x).tolist())",
}


@pytest.mark.parametrize("body", OFF.values(), ids=OFF)
def test_no_gradient_is_told_in_the_same_words_everywhere(user: Callable[..., Network], body: str) -> None:
    network = user(body)
    assert not network.card.gradients
    assert NO_GRADIENT in network.card.notes
    for method in ("saliency", "gradcam", "guided", "adversarial", "ascent", "dream", "inversion", "texture"):
        with pytest.raises(UnsupportedError) as error:
            find_method(method).verify(network.card, find_method(method).options.parse({}))
        assert str(error.value) == NO_GRADIENT
    check(network, lambda value: value.softmax(1))


POOL = """
class Pool(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.query = nn.Parameter(torch.randn(1, 2, width))
        self.q, self.kv = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.norm = nn.LayerNorm(width)

    def forward(self, t):
        k, v = self.kv(t).chunk(2, -1)
        q = self.norm(self.q(self.query).expand(len(t), -1, -1))
        return F.scaled_dot_product_attention(q, k, v).mean(1)
"""


def test_layers_that_no_pixel_reaches_are_not_offered(write: Callable[[str, str], Path], bring: Any) -> None:
    code = HEAD.replace("{width}", "5").replace(
        "{body}",
        "    def __init__(self):\n        super().__init__()\n        self.pool = Pool(16)\n\n"
        "    def forward(self, x):\n"
        "        m = F.relu(self.conv2(F.relu(self.conv1(x))))\n"
        "        return self.fc(self.pool(m.flatten(2).transpose(1, 2)))",
    )
    network = bring(
        architecture=f"{write('net.py', code.replace('class Net(Base)', POOL + chr(10) + 'class Net(Base)'))}:build"
    )
    reached = {layer.name: layer.reached for layer in network.card.layers}
    assert reached["conv2"]
    assert reached["pool.kv"]
    assert not reached["pool.norm"]
    result = find_method("gradcam").run(job_of(network, "gradcam"))
    assert result.summary["layer"] == "conv2"
    assert result.arrays["gradcam"].any()
    with pytest.raises(UnsupportedError, match=r"no gradient goes from pool\.norm"):
        find_method("saliency").verify(network.card, find_method("saliency").options.parse({"layer": "pool.norm"}))


def test_positions_that_are_learned_leave_the_last_block(write: Callable[[str, str], Path], bring: Any) -> None:
    code = HEAD.replace("{width}", "5").replace(
        "{body}",
        "    def __init__(self):\n        super().__init__()\n"
        "        self.places = nn.Parameter(torch.randn(1, 8, 16, 16))\n"
        "        self.positions = nn.Conv2d(8, 8, 1)\n\n    def forward(self, x):\n"
        "        m = F.relu(self.conv1(x)) + self.positions(self.places).expand(len(x), -1, -1, -1)\n"
        "        return self.fc(F.relu(self.conv2(m)).mean((2, 3)))",
    )
    network = bring(architecture=f"{write('net.py', code)}:build")
    assert not network.card.layer("positions").reached
    assert find_method("gradcam").run(job_of(network, "gradcam")).summary["layer"] == "conv2"
