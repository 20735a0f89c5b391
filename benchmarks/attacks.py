"""Attacks against Foolbox in one process: seconds for PGD-10 and DeepFool, and how often and by how much each fools.

    python -m benchmarks.attacks [--quick] [--networks fovea] [--photos 50] [--turns 1] [--agree 0] [--pixels 0]
        [--device cpu]

Both attack the same photos in the same batches with the same settings, in turn. `--agree 100` compares success and
the length of the change over so many photos, for every attack that Foolbox has too, instead of the time. `--pixels 10`
tells how many of so many photos one, three and five pixels fool, and after how many pictures asked. On two quiet cores
a call ends within three minutes; larger networks by themselves, on fewer photos (mobilenet: `--photos 10`).
Networks: fovea (trained), resnet18 (trained on Caltech-101 by this benchmark at its first call, ten minutes),
squeezenet, googlenet, mobilenet (real weights, beside a development checkout), or any name such as
torchvision:resnet18@random.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks._common import DATA, add_device, machine, ratio, settle, table, use_own_home
from benchmarks._trained import register_resnet18
from benchmarks.accuracy import NETWORKS, photos, register

BATCH = 10
EPSILON = {"inf": 2 / 255, "2": 0.5}
"""Radii at which some photos of trained networks withstand, so that success can differ at all."""

Attack = Callable[[Any, Any, int], Any]
"""Clean pictures (N, C, H, W), their labels (N,), the first photo's number; the attacked pictures."""


def subject(name: str, count: int, device: str) -> tuple[Any, Any, Any]:
    """A job on the network, `count` clean pictures and the network's own classes of them."""
    import torch
    from PIL import Image

    from fovea.engine.make import adversarial
    from fovea.engine.make.attack.shared.scores import scores_of
    from fovea.engine.make.optimise.canvas import to_picture
    from fovea.engine.method import Job
    from fovea.models.zoo import load

    if name in NETWORKS:
        register(name, DATA)
    elif name == "resnet18":
        register_resnet18()
    network = load(name)
    job = Job(network=network, options=adversarial.METHOD.options.parse({}), device=device)
    paths, _ = photos(DATA, count)
    clean = to_picture(np.stack([network.card.preprocessing.frame(Image.open(path)) for path in paths]), device)
    scores = scores_of(job)
    with torch.no_grad():
        labels = torch.cat([scores(clean[n : n + BATCH]).argmax(1) for n in range(0, count, BATCH)])
    return job, clean, labels


def ours(job: Any, name: str, epsilon: float = 8 / 255) -> Attack:
    """Fovea's attack of that name."""
    from fovea.engine.make.attack.shared.attack import find_attack

    attack = find_attack(name)
    short = dict(CARLINI) if name == "carlini_wagner" else {}
    how = {"steps": short.pop("steps", None), "options": attack.options.parse(short), "epsilon": epsilon}

    def run(clean: Any, labels: Any, first: int) -> Any:
        seeds = [first + n for n in range(len(clean))]
        return attack.run(attack.batch(job, clean, labels, seeds=seeds, **how))

    return run


CARLINI = {"steps": 30, "searches": 3, "constant": 10.0}
"""Short, so that it ends; both get the same."""


def foolbox(job: Any, name: str, epsilon: float = 8 / 255) -> Attack:
    """Foolbox's attack of that name, on the same module, with its own normalisation."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import foolbox as reference

        preprocessing = job.card.preprocessing
        how = {"mean": list(preprocessing.mean), "std": list(preprocessing.std), "axis": -3}
        model = reference.PyTorchModel(
            job.network.module(job.device), bounds=(0, 1), device=job.device, preprocessing=how
        )
    attacks = reference.attacks
    if name == "deepfool":
        made = attacks.L2DeepFoolAttack(steps=50, candidates=10, overshoot=0.02)
        return lambda clean, labels, first: made.run(model, clean, labels)
    if name == "carlini_wagner":
        made = attacks.L2CarliniWagnerAttack(
            steps=CARLINI["steps"], binary_search_steps=CARLINI["searches"], initial_const=CARLINI["constant"]
        )
        return lambda clean, labels, first: made.run(model, clean, labels)
    made = {
        "fgsm": lambda: attacks.LinfFastGradientAttack(),
        "bim": lambda: attacks.LinfBasicIterativeAttack(rel_stepsize=0.125, steps=10),
        "momentum": lambda: attacks.LinfMomentumIterativeFastGradientMethod(rel_stepsize=0.1, steps=10),
        "pgd": lambda: attacks.LinfPGD(rel_stepsize=0.25, steps=10),
        "pgd_l2": lambda: attacks.L2PGD(rel_stepsize=0.2, steps=10),
    }[name]()
    return lambda clean, labels, first: made.run(model, clean, labels, epsilon=epsilon)


def in_batches(attack: Attack, clean: Any, labels: Any) -> Any:
    """All photos, `BATCH` at a time."""
    import torch

    parts = [attack(clean[n : n + BATCH], labels[n : n + BATCH], n) for n in range(0, len(clean), BATCH)]
    return torch.cat(parts)


def seconds(job: Any, clean: Any, labels: Any, turns: int) -> list[list[str]]:
    """A row for each attack: both times, and how many times as long Foolbox took."""
    rows = []
    for name in ("pgd", "deepfool"):
        pair = {"ours": ours(job, name), "Foolbox": foolbox(job, name)}
        spent: dict[str, list[float]] = {who: [] for who in pair}
        for attack in pair.values():
            attack(clean[:2], labels[:2], 0)  # to warm up
        for turn in range(turns):
            for who in list(pair) if turn % 2 == 0 else list(pair)[::-1]:
                started = time.perf_counter()
                in_batches(pair[who], clean, labels)
                settle()
                spent[who].append(time.perf_counter() - started)
        times = [f"{np.median(spent[who]):.1f}" for who in ("ours", "Foolbox")]
        rows.append([job.card.name, name, *times, f"{ratio(spent, 'Foolbox', 'ours'):.2f}"])
    return rows


def told(job: Any, clean: Any, labels: Any, pictures: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """Which pictures fool, and the L2 length of each change."""
    import torch

    from fovea.engine.make.attack.shared.scores import scores_of

    scores = scores_of(job)
    with torch.no_grad():
        found = torch.cat([scores(pictures[n : n + BATCH]).argmax(1) for n in range(0, len(clean), BATCH)])
    return (found != labels).cpu().numpy(), (pictures - clean).flatten(1).norm(dim=1).cpu().numpy()


def agreement(job: Any, clean: Any, labels: Any, names: list[str]) -> list[list[str]]:
    """A row for each attack: success in percent, the mean length where both fool, and whether they agree."""
    from fovea.engine.make.attack.shared.attack import find_attack

    rows = []
    for name in names:
        epsilon = EPSILON["2" if find_attack(name).norm == 2 else "inf"]
        found = []
        for made in (ours, foolbox):
            pictures = in_batches(made(job, name, epsilon), clean, labels)
            found.append(told(job, clean, labels, pictures))
        (fools, lengths), (others, reference) = found
        both = fools & others
        success = [100 * float(one.mean()) for one in (fools, others)]
        means = [float(one[both].mean()) if both.any() else float("nan") for one in (lengths, reference)]
        agree = abs(success[0] - success[1]) <= 2 and abs(means[0] / means[1] - 1) <= 0.05
        told_both = [f"{one:.1f}" for one in success] + [f"{one:.4f}" for one in means]
        rows.append([job.card.name, name, *told_both, "yes" if agree else "NO"])
        print(" · ".join(rows[-1]), flush=True)
    return rows


def few(job: Any, clean: Any, labels: Any, population: int, generations: int) -> list[list[str]]:
    """A row for each number of pixels: the share of photos that it fools, and the pictures asked for a success."""
    from fovea.engine.make.attack.few_pixel import few_pixels
    from fovea.engine.make.judge.classifier import RuntimeClassifier
    from fovea.engine.make.optimise.canvas import to_pixels

    runtime, rows = RuntimeClassifier(job), []
    for pixels in (1, 3, 5):
        needed = []
        for frame, label in zip(to_pixels(clean), labels.tolist(), strict=True):
            asked = [0]

            def ask(frames: NDArray[Any], asked: list[int] = asked) -> NDArray[Any]:
                asked[0] += len(frames)
                return runtime(frames)

            made = few_pixels(ask, frame, label, pixels=pixels, population=population, generations=generations)
            assert np.any(made != frame, axis=-1).sum() <= pixels
            if int(runtime(made[None])[0].argmax()) != label:
                needed.append(asked[0])
        told = f"{np.median(needed):.0f}" if needed else ""
        rows.append([job.card.name, str(pixels), f"{len(needed)} of {len(labels)}", told])
        print(" · ".join(rows[-1]), flush=True)
    return rows


def main() -> int:
    """Print the tables; 1 if an attack does not agree with Foolbox's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="four photos on the bundled network: only that it works")
    parser.add_argument("--networks", default="fovea")
    parser.add_argument("--photos", type=int, default=50)
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--agree", type=int, default=0, help="compare success over so many photos, and not the time")
    parser.add_argument("--pixels", type=int, default=0, help="how many of so many photos a few pixels fool")
    parser.add_argument("--population", type=int, default=400, help="few pixels: candidates of a generation (Su 2019)")
    parser.add_argument("--generations", type=int, default=100, help="few pixels: at most so many (Su 2019)")
    parser.add_argument("--attacks", default="fgsm,bim,momentum,pgd,pgd_l2,deepfool", help="those that are compared")
    parser.add_argument("--threads", type=int, default=2)
    add_device(parser)
    arguments = parser.parse_args()
    if not DATA.is_dir():
        print(f"no photos at {DATA}: nothing was measured")
        return 0
    use_own_home()
    import torch

    torch.set_num_threads(arguments.threads)
    names = ["fovea"] if arguments.quick else arguments.networks.split(",")
    count = 4 if arguments.quick else arguments.agree or arguments.pixels or arguments.photos
    print(machine(arguments.device))
    rows: list[list[str]] = []
    for name in names:
        made = subject(name, count, arguments.device)
        if arguments.agree:
            rows += agreement(*made, arguments.attacks.split(","))
        elif arguments.pixels:
            rows += few(*made, arguments.population, arguments.generations)
        else:
            rows += seconds(*made, arguments.turns)
    if arguments.agree:
        print(table(["network", "attack", "success %", "Foolbox", "mean L2", "Foolbox", "agree"], rows))
        return int(any(row[-1] == "NO" for row in rows))
    if arguments.pixels:
        print(table(["network", "pixels", "fooled", "pictures asked, median of successes"], rows))
        return 0
    print(table(["network", "attack", "seconds", "Foolbox", "× Foolbox"], rows))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
