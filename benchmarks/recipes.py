"""What each recipe reaches on real weights: by how much its loss changes, and whether another network agrees.

    python -m benchmarks.recipes [--quick] [--networks squeezenet,googlenet] [--only RECIPES] [--threads 2]
        [--device cpu]

On squeezenet1_1 and GoogLeNet with the real weights of the development data; skipped where they are not there.
`--only` names what is measured, of ascent,dream,inversion,texture,style,agreement: each is a minute or less. The
last table asks each network what it sees in pictures of a class that were made on the other one, with Lucid's
regularisers and without any, read back from the 8-bit picture. Ends with 1 where a recipe changes its loss by less than
`FACTORS` says, the class's probability on the saved picture is not over 0.9, or the other network does not agree about
the picture with regularisers that was made on GoogLeNet.
"""

from __future__ import annotations

from typing import Any

from benchmarks._common import DATA, add_device, machine, parser, table, use_own_home

WEIGHTS = {"squeezenet": "squeezenet1_1_caffe.safetensors", "googlenet": "bvlc_googlenet.safetensors"}
GOLDFISH = 1


def networks() -> dict[str, Any]:
    """Both networks, by name."""
    from fovea.models.registry import register, registered
    from fovea.models.zoo import load

    folder = DATA / "weights"
    architectures = {
        "squeezenet": "torchvision:squeezenet1_1",
        "googlenet": f"{folder}/bvlc_googlenet.py:BVLCGoogLeNet",
    }
    for name, file in WEIGHTS.items():
        if name not in registered():
            register(name, architecture=architectures[name], weights=str(folder / file))
    return {name: load(name) for name in WEIGHTS}


def run(method: str, network: Any, device: str, **options: Any) -> Any:
    """The method's result on a packaged photo."""
    from fovea.engine.data.photos import open_photo
    from fovea.engine.method import Job, find_method

    found = find_method(method)
    parsed = found.options.parse(options)
    found.verify(network.card, parsed)
    photo = open_photo("sample:coffee")
    return found.run(Job(network=network, options=parsed, photo=photo, open_photo=open_photo, device=device))


SETTINGS: dict[str, dict[str, Any]] = {
    "ascent": {"target": str(GOLDFISH), "steps": 80},
    "dream": {"octaves": 1, "steps": 10, "size": 224},
    "inversion": {"series": 1, "steps": 60},
    "texture": {"height": 128, "width": 128, "steps": 60, "series": False},
    "style": {"size": 128, "steps": 60},
}
"""What each recipe is told: small enough for a minute on two cores."""


FACTORS = {"dream": 1.5, "inversion": 0.1, "texture": 0.05, "style": 0.02}
"""What becomes of a recipe's loss, at most of its start; of a dream's energy, at least."""


def reached(method: str, network: Any, device: str, quick: bool) -> list[list[str]]:
    """Rows of what a recipe moves, from where, to where."""
    result = run(method, network, device, **SETTINGS[method] | ({"steps": 2} if quick else {}))
    losses = result.tables["losses"]
    if method == "dream":
        energies = losses.groupby("layer", sort=False)["energy"]
        return [
            [
                method,
                f"energy of {name}",
                f"{one.iloc[0]:.3g}",
                f"{one.iloc[-1]:.3g}",
                judged(one.iloc[-1] >= FACTORS[method] * one.iloc[0]),
            ]
            for name, one in energies
        ]
    if method == "ascent":
        moved = losses["activation"]
        return [
            [method, "activation", f"{moved.iloc[0]:.3g}", f"{moved.iloc[-5:].mean():.3g}", ""],
            [
                method,
                "probability",
                "",
                f"{result.summary['probability']:.3f}",
                judged(result.summary["probability"] > 0.9),
            ],
        ]
    first, last = losses["loss"].iloc[0], losses["loss"].iloc[-1]
    return [[method, "loss", f"{first:.3g}", f"{last:.3g}", judged(last <= FACTORS[method] * first)]]


def judged(holds: bool) -> str:
    """Whether a stated truth holds, as a cell."""
    return "yes" if holds else "NO"


def agreement(found: dict[str, Any], names: list[str], device: str, quick: bool) -> list[list[str]]:
    """What the other network gives the class on pictures of `names` made with and without regularisers."""
    import numpy as np

    from fovea.engine.make.judge.verdict import SecondOpinion

    rows = []
    for name in names:
        (other,) = (one for one in found if one != name)
        second = SecondOpinion(found[other], device)
        for preset in ("lucid", "none"):
            result = run("ascent", found[name], device, target=str(GOLDFISH), preset=preset, steps=2 if quick else 100)
            seen = second.probabilities(np.asarray(result.images["ascent"]))
            told = judged(seen.argmax() == GOLDFISH) if (name, preset) == ("googlenet", "lucid") else ""
            rows.append([name, preset, f"{result.summary['probability']:.4f}", other, f"{seen[GOLDFISH]:.4f}", told])
    return rows


def main() -> int:
    """Print the tables; 1 where a truth does not hold."""
    given = parser(__doc__, "two steps each: only that it works")
    given.add_argument("--networks", default=",".join(WEIGHTS))
    given.add_argument("--only", default=",".join([*SETTINGS, "agreement"]))
    add_device(given)
    given.add_argument("--threads", type=int, default=2)
    arguments = given.parse_args()
    if not all((DATA / "weights" / file).is_file() for file in WEIGHTS.values()):
        print(f"The real weights are not in {DATA}: nothing to measure.")
        return 0
    use_own_home()
    import torch

    torch.set_num_threads(arguments.threads)
    print(machine(arguments.device))
    found, names, only = networks(), arguments.networks.split(","), arguments.only.split(",")
    methods = [method for method in SETTINGS if method in only]
    device, quick = arguments.device, arguments.quick
    rows = [[n, *row] for n in names for method in methods for row in reached(method, found[n], device, quick)]
    if rows:
        print(table(["network", "recipe", "what", "first step", "last step", "as stated"], rows))
    if "agreement" in only:
        header = ["made on", "preset", "its probability", "asked", "probability there", "as stated"]
        agreed = agreement(found, names, device, quick)
        print(table(header, agreed))
        rows += agreed
    return int(not quick and any(row[-1] == "NO" for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
