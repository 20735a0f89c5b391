"""A saliency map against the bare forward and backward, and SmoothGrad against Captum's NoiseTunnel.

    python -m benchmarks.saliency [--quick] [--networks resnet18,…] [--repeats 3] [--threads 2] [--device cpu]

All see the same photo and the same threads, in turn, in one process. "saliency" is the whole method after the network
and the photo are loaded: the choice of the class, forward, backward, the check that all is finite, the reduction over
channels, the result with its panels. "bare" is one forward and one backward of torchvision's own module, which bears
none of our hooks. Captum's NoiseTunnel is timed at several batches, on that module too; its best is compared.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

from benchmarks._common import add_device, interleaved, machine, parser, random_network, ratio, table, use_own_home

CAPTUM_BATCHES = (1, 5, 25)


def own_module(name: str, state: Any) -> Any:
    """torchvision's module with these weights, as a user has it: none of our hooks on it."""
    import fovea.models.torchvision_compat  # noqa: F401, I001
    import torchvision

    module = getattr(torchvision.models, name)()
    module.load_state_dict(state)
    return module.eval().requires_grad_(False)


def contenders(name: str, threads: int, samples: int, device: str) -> dict[str, Callable[[], Any]]:
    """What is timed on one network, by name."""
    import torch
    from captum.attr import NoiseTunnel, Saliency

    from fovea.engine.data.photos import open_photo
    from fovea.engine.explain import saliency
    from fovea.engine.method import Job

    torch.set_num_threads(threads)
    network = random_network(name)
    module = network.module(device)
    photo = open_photo("sample:cat")

    def job(**options: Any) -> Job:
        made = Job(network=network, options=saliency.METHOD.options.parse(options), photo=photo, device=device)
        _ = made.input
        return made

    plain, smooth = job(), job(sampling="smoothgrad", samples=samples)
    x = torch.from_numpy(plain.input).to(device)
    own = own_module(name, module.state_dict()).to(device)
    with torch.no_grad():
        target = int(own(x).argmax())

    def bare() -> Any:
        inputs = x.clone().requires_grad_(True)
        return torch.autograd.grad(own(inputs)[0, target], inputs)

    tunnel = NoiseTunnel(Saliency(own))
    deviation = 0.15 * float(x.max() - x.min())

    def captum(batch: int) -> Callable[[], Any]:
        settings = {"nt_type": "smoothgrad", "nt_samples": samples, "nt_samples_batch_size": batch}
        return lambda: tunnel.attribute(x, stdevs=deviation, target=target, abs=False, **settings)

    found: dict[str, Callable[[], Any]] = {
        "bare": bare,
        "saliency": lambda: saliency.METHOD.run(plain),
        "smoothgrad": lambda: saliency.METHOD.run(smooth),
    }
    return found | {f"captum {batch}": captum(batch) for batch in CAPTUM_BATCHES if batch <= samples}


def main() -> None:
    """Print the table."""
    ask = parser(__doc__, "one small network, one turn: only that it works")
    ask.add_argument("--networks", default="resnet18,resnet50")
    ask.add_argument("--repeats", type=int, default=3)
    ask.add_argument("--threads", type=int, default=2)
    add_device(ask)
    arguments = ask.parse_args()
    use_own_home()
    names = ["squeezenet1_1"] if arguments.quick else arguments.networks.split(",")
    samples, repeats = (5, 1) if arguments.quick else (25, arguments.repeats)
    print(machine(arguments.device))
    rows = []
    for name in names:
        times = interleaved(contenders(name, arguments.threads, samples, arguments.device), repeats)
        best = min((key for key in times if key.startswith("captum")), key=lambda key: statistics.median(times[key]))
        rows.append(
            [
                name,
                f"{ratio(times, 'saliency', 'bare'):.2f}",
                f"{ratio(times, 'smoothgrad', best):.2f}",
                best.removeprefix("captum "),
            ]
        )
    print(table(["network", "saliency / bare", f"SmoothGrad {samples} / Captum's best", "Captum's batch"], rows))


if __name__ == "__main__":
    main()
