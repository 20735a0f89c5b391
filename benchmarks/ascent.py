"""A step of ascent against the bare forward and backward of the same cut network, and against Lucent's render.

    python -m benchmarks.ascent [--quick] [--networks squeezenet1_1,resnet18,fovea] [--repeats 5] [--threads 2]
        [--steps 40] [--clock wall] [--bfloat16] [--alike fovea] [--alike-steps 160] [--device cpu]

Ascent with each preset's canvas, losses, transforms and projection, on a class and on a layer in the middle; the bare
contender moves the same pixels with the same optimiser and no more. "channels last" and, with `--bfloat16`, "bfloat16"
are the bare contender with its input in that layout, or under autocast (very slow where the processor lacks it).
Lucent (torch-lucent 0.1.8, in a folder named by PYTHONPATH, with kornia 0.4.1, decorator and IPython) renders the same
unit with its defaults. All take turns in one process; with `--clock cpu` on one thread, whose own seconds are counted,
for a machine that is busy otherwise.

The second table holds the pictures of the networks named by `--alike` against each other: as the loop runs the
network (folded, maybe with channels last), under bfloat16, and with the last bit of its input changed, against the
picture of the network as it is. SSIM 1 is the same picture; what the last bit does no change of rounding can better.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

from benchmarks._common import add_device, interleaved, machine, parser, random_network, ratio, table, use_own_home


def made(network: Any, steps: int, preset: str, device: str, **options: Any) -> Callable[[], Any]:
    """The steps of ascent as its method takes them, with the frames of its animation; nothing is saved or measured."""
    from fovea.engine.make import ascent
    from fovea.engine.make.excite.objectives import objectives_of
    from fovea.engine.make.excite.presets import settings_of
    from fovea.engine.make.optimise.animation import Animation
    from fovea.engine.make.optimise.canvas import contact_sheet
    from fovea.engine.make.optimise.growth import Growth
    from fovea.engine.method import Job

    parsed = ascent.METHOD.options.parse({"steps": steps, "preset": preset, **options})
    job = Job(network=network, options=parsed, device=device)
    objectives = objectives_of(job)
    return lambda: ascent.make(
        job,
        objectives,
        settings_of(parsed),
        Growth(job.progress, draw=contact_sheet, animation=Animation(max(steps, 160))),
    )


def bare(
    network: Any, steps: int, tap: str, score: Callable[[Any], Any], device: str, how: str = ""
) -> Callable[[], Any]:
    """Forward, backward and Adam on pixels, `how` "channels last" or "bfloat16"."""
    import torch

    from fovea.models.torch_net import forward_taps

    module, preprocessing = network.module(device), network.card.preprocessing
    layout = torch.channels_last if how == "channels last" else torch.contiguous_format

    def run() -> None:
        x = torch.zeros(1, preprocessing.channels, *preprocessing.size, device=device).contiguous(memory_format=layout)
        x.requires_grad_(True)
        mover = torch.optim.Adam([x], lr=0.01)
        for _ in range(steps):
            low = torch.autocast(device, torch.bfloat16) if how == "bfloat16" else contextlib.nullcontext()
            with low:
                loss = -score(forward_taps(module, x, [tap])[tap])
            (x.grad,) = torch.autograd.grad(loss.float(), x)
            mover.step()

    return run


def lucent(network: Any, steps: int, layer: str, device: str) -> Callable[[], Any] | None:
    """Lucent's render of unit 0 of `layer` with its defaults, at the network's size; None where it is not installed."""
    try:
        from lucent.optvis import objectives, param, render
    except ImportError:
        return None
    module, side = network.module(device), network.card.preprocessing.size[0]
    objective = objectives.channel(layer.replace(".", "_"), 0)
    return lambda: render.render_vis(
        module,
        objective,
        lambda: param.image(side, batch=1),
        thresholds=(steps,),
        verbose=False,
        show_image=False,
        show_inline=False,
        progress=False,
    )


def contenders(name: str, threads: int, steps: int, low: bool, device: str) -> dict[str, Callable[[], Any]]:
    """What is timed on one network, by name; each makes `steps` steps. `low`: bfloat16 too."""
    import torch

    from fovea.engine.make.optimise.layers import layer_at
    from fovea.engine.make.optimise.losses import UnitActivation, View
    from fovea.models.card import OUTPUT

    torch.set_num_threads(threads)
    network = random_network(name)
    layer = layer_at(network.card, 0.5)
    unit = UnitActivation(layer, 0, "mean")

    def of_unit(output: Any) -> Any:
        return unit(View(output, output, {layer.name: output})).sum()

    def of_class(output: Any) -> Any:
        return output[0, 0]

    found = {
        "bare class": bare(network, steps, OUTPUT, of_class, device),
        "bare unit": bare(network, steps, layer.name, of_unit, device),
        "channels last": bare(network, steps, OUTPUT, of_class, device, "channels last"),
        "class none": made(network, steps, "none", device, target="0"),
        "class lucid": made(network, steps, "lucid", device, target="0"),
        "unit none": made(network, steps, "none", device, layer=layer.name, unit=0),
        "unit lucid": made(network, steps, "lucid", device, layer=layer.name, unit=0),
    }
    if low:
        found["bfloat16"] = bare(network, steps, OUTPUT, of_class, device, "bfloat16")
    other = lucent(network, steps, layer.name, device)
    return found if other is None else {**found, "lucent": other}


COLUMNS = {
    "class, pixels": ("class none", "bare class"),
    "class, Fourier": ("class lucid", "bare class"),
    "unit, pixels": ("unit none", "bare unit"),
    "unit, Fourier": ("unit lucid", "bare unit"),
    "channels last": ("channels last", "bare class"),
    "bfloat16": ("bfloat16", "bare class"),
    "Lucent / ours": ("lucent", "unit lucid"),
}
"""Each column's title, and which time is divided by which."""


WAYS = ("ours", "last bit", "bfloat16")


def alike(name: str, steps: int, device: str) -> list[str]:
    """How alike the pictures are that class 1 gets from the network run in three ways, a row of SSIMs."""
    import numpy as np
    import torch
    from skimage.metrics import structural_similarity

    from fovea.engine.make.optimise.canvas import to_pixels
    from fovea.engine.make.optimise.folded_network import FoldedNetwork
    from fovea.models.zoo import load

    network = load(name)

    def picture(preset: str) -> np.ndarray[Any, Any]:
        return to_pixels(made(network, steps, preset, device, target="1")().picture)[0]

    cells = []
    for preset in ("none", "lucid"):
        folded, call = picture(preset), FoldedNetwork.__call__
        try:
            FoldedNetwork.__call__ = _as_it_is  # type: ignore[method-assign]
            plain = picture(preset)
            with torch.autocast(device, torch.bfloat16):
                low = picture(preset)
            FoldedNetwork.__call__ = _nudged  # type: ignore[method-assign]
            nudged = picture(preset)
        finally:
            FoldedNetwork.__call__ = call  # type: ignore[method-assign]
        for other in (folded, nudged, low):
            ssim = structural_similarity(plain, other, channel_axis=-1, data_range=255)  # type: ignore[no-untyped-call]
            cells.append(f"{ssim:.3f}")
    return [name, str(steps), *cells]


def _as_it_is(network: Any, x: Any, rule: str = "gradient") -> Any:
    from fovea.models.torch_net import forward_taps

    return forward_taps(network.module, x, network.taps)


def _nudged(network: Any, x: Any, rule: str = "gradient") -> Any:
    return _as_it_is(network, x * (1 + 2**-23))


def main() -> None:
    """Print both tables."""
    found = parser(__doc__, "one small network, one turn: only that it works")
    found.add_argument("--networks", default="squeezenet1_1,resnet18,fovea")
    found.add_argument("--repeats", type=int, default=5)
    found.add_argument("--threads", type=int, default=2)
    found.add_argument("--steps", type=int, default=40)
    add_device(found)
    found.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    found.add_argument("--bfloat16", action="store_true", help="time the bare step under autocast, too")
    found.add_argument("--alike", default="fovea", help="networks whose pictures are compared; empty: none")
    found.add_argument("--alike-steps", type=int, default=160)
    arguments = found.parse_args()
    use_own_home()
    names = ["squeezenet1_1"] if arguments.quick else [name for name in arguments.networks.split(",") if name]
    steps, repeats = (2, 1) if arguments.quick else (arguments.steps, arguments.repeats)
    threads, clock = (1, time.process_time) if arguments.clock == "cpu" else (arguments.threads, time.perf_counter)
    print(machine(arguments.device))
    rows = []
    for name in names:
        times = interleaved(contenders(name, threads, steps, arguments.bfloat16, arguments.device), repeats, clock)
        cells = [f"{ratio(times, slow, fast):.2f}" if slow in times else "-" for slow, fast in COLUMNS.values()]
        rows.append([name, *cells])
    if rows:
        print(table(["network", *COLUMNS], rows))
    if all(row[-1] == "-" for row in rows):
        print("Lucent is not installed here.")
    header = ["network", "steps", *(f"{preset}, {way}" for preset in ("none", "lucid") for way in WAYS)]
    long = 2 if arguments.quick else arguments.alike_steps
    pictures = [alike(name, long, arguments.device) for name in arguments.alike.split(",") if name]
    if pictures:
        print(table(header, pictures))


if __name__ == "__main__":
    main()
