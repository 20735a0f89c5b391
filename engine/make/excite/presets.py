"""Named settings of ascent from the papers, and what options replace of them; no torch here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fovea.engine.make.excite.options import AscentOptions


@dataclass(frozen=True)
class AscentSettings:
    """Canvas, start, step and regularisers: what a preset sets.

    `rule`: "adam", or "progress", steps that raise the activation by `learning_rate` times its own scale.
    `transforms` are random scale and rotation, `jitter` and `blur` (a Gaussian after every `blur_every` steps) are in
    pixels, `decay` is the part of the picture that is lost at each step, `clip_norm` and `clip_contribution` are
    percentiles.
    """

    canvas: str
    start: str
    learning_rate: float
    rule: str = "adam"
    l2: float = 0.0
    total_variation: float = 0.0
    jitter: int = 0
    transforms: bool = False
    blur: float = 0.0
    blur_every: int = 4
    decay: float = 0.0
    clip_norm: float = 0.0
    clip_contribution: float = 0.0


_YOSINSKI = AscentSettings("pixels", "noise", 12.0, "progress")

PRESETS = {
    "lucid": AscentSettings("fourier", "noise", 0.05, jitter=8, transforms=True),
    "yosinski": replace(_YOSINSKI, decay=0.0001, blur=1.0),
    "yosinski-1": replace(_YOSINSKI, blur=0.5, clip_norm=50),
    "yosinski-2": replace(_YOSINSKI, decay=0.3, clip_norm=20),
    "yosinski-4": replace(_YOSINSKI, blur=0.5, clip_contribution=90),
    "simonyan": AscentSettings("pixels", "zero", 0.01, l2=10.0),
    "none": AscentSettings("pixels", "noise", 0.01),
}
"""lucid: render.py's defaults. yosinski: table 1 of Yosinski et al. 2015, its third row the one that they used most.
simonyan: the L2 term alone, from zero (eq. 1). none: no regulariser at all, which ends in noise that fools."""

COMPARED = ("none", "simonyan", "yosinski", "lucid")
"""The presets of "side-by-side"."""


def settings_of(options: AscentOptions, preset: str = "") -> AscentSettings:
    """The settings of a preset (the options' own, unless one is named), with what the options replace of them."""
    base = PRESETS[preset or options.preset]
    names = [name for name in AscentSettings.__dataclass_fields__ if name in type(options).model_fields]
    replaced = {name: getattr(options, name) for name in names if getattr(options, name) not in (None, "preset")}
    settings = replace(base, **replaced)
    if settings.canvas == base.canvas:
        return settings
    if settings.canvas == "pixels":
        return replace(settings, learning_rate=options.learning_rate or PRESETS["none"].learning_rate)
    # What acts on pixels goes, unless the options ask for it, which `check` then refuses.
    return replace(
        settings,
        rule="adam",
        learning_rate=options.learning_rate or PRESETS["lucid"].learning_rate,
        blur=options.blur or 0.0,
        decay=options.decay or 0.0,
        clip_norm=0.0,
        clip_contribution=0.0,
    )
