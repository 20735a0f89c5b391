"""What a network's output means: how its scores become probabilities of classes, in NumPy, torch and ONNX alike.

Every method asks this type; none asks for a network's kind of output by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

OutputKind: TypeAlias = Literal[
    "logits", "probabilities", "sigmoid", "sigmoid_logits", "binary", "binary_probability", "features"
]
"""What a network returns, as a registration says it."""

SMALLEST = 1e-12
"""Probabilities below this have its logarithm."""


@dataclass(frozen=True)
class OutputMeaning:
    """How the scores (N, classes) of a network are read.

    `words` names the kind for people. `link` turns scores into probabilities: a "softmax" over all classes, a "sigmoid"
    of each, or "none" where they are probabilities already. `exclusive`: a photo has one class of all, so that its
    probabilities sum to 1; else each class is a label that a photo has or has not. `sides`: the network itself returns
    one number a photo for two classes, and scores are made of it: logits -z and z, or probabilities 1 - p and p.
    """

    kind: OutputKind
    words: str
    link: Literal["softmax", "sigmoid", "none"]
    exclusive: bool = True
    sides: bool = False

    @property
    def has_classes(self) -> bool:
        """Whether the output tells of classes at all."""
        return self.kind != "features"

    @property
    def knows_logits(self) -> bool:
        """Whether its scores are logits; of probabilities they cannot be had."""
        return self.link != "none"

    @property
    def made_by(self) -> str:
        """How people are told that a probability comes about."""
        return {
            "softmax": "the softmax of its logits",
            "sigmoid": "the sigmoid of its logit",
            "none": "what the network itself returns",
        }[self.link]

    def probabilities(self, scores: NDArray[Any]) -> NDArray[np.float64]:
        """Probabilities (N, classes) of scores (N, classes)."""
        scores = np.asarray(scores, np.float64)
        if self.link == "softmax":
            exponentials = np.exp(scores - scores.max(-1, keepdims=True))
            return np.asarray(exponentials / exponentials.sum(-1, keepdims=True))
        if self.link == "sigmoid":
            from scipy.special import expit

            return np.asarray(expit(scores))
        return scores

    def logits(self, scores: NDArray[Any]) -> NDArray[np.float64]:
        """The logits (N, classes) of scores (N, classes); of probabilities their logarithms."""
        scores = np.asarray(scores, np.float64)
        return scores if self.knows_logits else np.asarray(np.log(np.maximum(scores, SMALLEST)))

    def torch_probabilities(self, scores: Tensor) -> Tensor:
        """Probabilities (N, classes) of scores (N, classes), differentiable."""
        if self.link == "none":
            return scores
        wide = scores.float()
        return wide.softmax(1) if self.link == "softmax" else wide.sigmoid()

    def torch_logarithms(self, scores: Tensor) -> Tensor:
        """The logarithms of the probabilities (N, classes) of scores (N, classes), differentiable."""
        import torch.nn.functional as F

        if self.link == "none":
            return scores.clamp_min(SMALLEST).log()
        return F.log_softmax(scores, 1) if self.link == "softmax" else F.logsigmoid(scores)

    def torch_rivals(self, scores: Tensor) -> Tensor:
        """Numbers (N, classes) whose softmax is the probabilities, as attacks compare classes: logits, or logarithms of
        probabilities. Differentiable."""
        return scores if self.link == "softmax" else self.torch_logarithms(scores)

    def onnx_probabilities(self, tensor: str, node: Callable[..., str]) -> str:
        """The same in an ONNX graph: `node(operator, tensor, **attributes)` adds a node and names its output."""
        if self.link == "softmax":
            return node("Softmax", tensor, axis=1)
        return node("Sigmoid", tensor) if self.link == "sigmoid" else tensor

    def torch_scores(self, output: Tensor) -> Tensor:
        """What the methods read: of one number a photo, (N,) or (N, 1) or (N, 1, 1), two scores (N, 2); else itself."""
        import torch

        if not self.sides:
            return output
        number = output.reshape(-1, 1)
        return torch.cat([-number if self.knows_logits else 1 - number, number], 1)


MEANINGS: Mapping[str, OutputMeaning] = {
    meaning.kind: meaning
    for meaning in (
        OutputMeaning("logits", "logits of classes", "softmax"),
        OutputMeaning("probabilities", "probabilities of classes", "none"),
        OutputMeaning("sigmoid", "probabilities of several labels", "none", exclusive=False),
        OutputMeaning("sigmoid_logits", "logits of several labels", "sigmoid", exclusive=False),
        OutputMeaning("binary", "one logit, yes or no", "sigmoid", sides=True),
        OutputMeaning("binary_probability", "one probability, yes or no", "none", sides=True),
        OutputMeaning("features", "features, no classes", "none", exclusive=False),
    )
}
"""Every kind of output, by its name in networks.toml."""

OUTPUT_HELP = (
    "What its output means. logits: a softmax makes them probabilities of classes. probabilities: the network ends in "
    "its own softmax. sigmoid: probabilities of several labels, each on its own; sigmoid_logits: the same before the "
    "sigmoid. binary: one logit that says yes or no; binary_probability: one probability of yes. features: no classes. "
    "Left empty, it is found from how the network ends and what it returns, and a note says how."
)
"""The help of the option that declares it."""

OUTPUT_NAME_HELP = (
    "Which of several outputs is read: its name, such as logits, or its place, such as [1]. Left empty, it is the one "
    "with a name like logits, as wide as the list of classes, or made last of the others, and a note says which."
)
"""The help of the option that chooses one of several outputs."""


def declared_kind(declared: OutputKind, units: int) -> OutputKind:
    """What a registration says of an output of `units` numbers: one number alone has two sides."""
    if units != 1:
        return declared
    one: Mapping[str, OutputKind] = {
        "logits": "binary",
        "sigmoid_logits": "binary",
        "probabilities": "binary_probability",
        "sigmoid": "binary_probability",
    }
    return one.get(declared, declared)
