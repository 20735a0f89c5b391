"""Thirty small networks of timm, each of another family, with random weights: does every verb work on them?

Each is loaded, its card made, its graph exported and compared with torch. What `classify` says of a photo is compared
with the softmax of timm's own module, and occlusion, activations, Grad-CAM, saliency and guided backprop are run. Exits
with 1 if a network fails in anything but one clear line that says why.

    python -m benchmarks.families [NAME …] [--quick]
"""

from __future__ import annotations

import time
from typing import Any

from benchmarks._common import machine, parser, table, use_own_home

NAMES = [
    "resnet10t",
    "mobilenetv3_small_050",
    "efficientnet_b0",
    "edgenext_xx_small",
    "ghostnet_050",
    "lcnet_035",
    "levit_128s",
    "mixnet_s",
    "mobilevit_xxs",
    "mobileone_s0",
    "pit_ti_224",
    "poolformer_s12",
    "pvt_v2_b0",
    "regnety_002",
    "repvgg_a0",
    "rexnet_100",
    "tinynet_e",
    "visformer_tiny",
    "crossvit_tiny_240",
    "deit_tiny_patch16_224",
    "dla46_c",
    "densenet121",
    "convnext_atto",
    "swin_tiny_patch4_window7_224",
    "hardcorenas_a",
    "res2net50_14w_8s",
    "skresnet18",
    "inception_next_atto",
    "mambaout_femto",
    "mobilenetv4_conv_small",
]
QUICK = 4
METHODS: dict[str, dict[str, Any]] = {
    "occlusion": {"window": 112, "stride": 56},
    "activations": {"glance": False},
    "gradcam": {},
    "saliency": {},
    "guided": {"units": 1},
}


def row(name: str) -> tuple[list[str], bool]:
    """The table's line of one network, and whether it holds."""
    import torch

    import fovea
    from fovea.engine.errors import FoveaError
    from fovea.models.zoo import load

    started, holds = time.perf_counter(), True
    try:
        network = load(f"timm:{name}@random")
        handle = fovea.open(f"timm:{name}@random")
    except FoveaError as error:
        return [name, str(error)[:60], *[""] * (len(METHODS) + 2)], False
    card = network.card
    run = handle.classify("sample:cat", device="cpu", provider="cpu", fresh=True)
    from fovea.engine.data.photos import open_photo

    preprocessing = card.preprocessing
    x = torch.from_numpy(preprocessing.normalise(preprocessing.frame(open_photo("sample:cat")))[None])
    with torch.no_grad():
        right = float(network.module()(x).softmax(1).max())
    gap = abs(run.summary["probability"] - right)
    holds &= gap < 1e-3
    graph = "torch" if run.record.ran.get("provider", "").startswith("torch") else "ONNX"
    told = []
    for method, options in METHODS.items():
        try:
            done = getattr(handle, method)("sample:cat", device="cpu", provider="cpu", fresh=True, **options)
            told.append(f"{done.record.seconds - done.record.load_seconds:.1f} s")
        except FoveaError as error:
            told.append("refused" if "Error:" not in str(error) else "FAILS")
            holds &= told[-1] != "FAILS"
    return [
        name,
        f"{len(card.layers)} layers",
        graph,
        f"{gap:.0e}",
        *told,
        f"{time.perf_counter() - started:.0f} s",
    ], holds


def main() -> int:
    found = parser(__doc__, f"only the first {QUICK}")
    found.add_argument("names", nargs="*", help="timm's names (default: thirty families)")
    arguments = found.parse_args()
    use_own_home()
    names = arguments.names or (NAMES[:QUICK] if arguments.quick else NAMES)
    rows, holds = [], True
    for name in names:
        line, good = row(name)
        holds &= good
        rows.append(line)
        print(" · ".join(line), flush=True)
    print(machine())
    print(table(["network", "card", "forward in", "gap to timm", *METHODS, "all"], rows))
    return 0 if holds else 1


if __name__ == "__main__":
    raise SystemExit(main())
