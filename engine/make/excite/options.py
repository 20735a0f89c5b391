"""What ascent can be told; its presets, its objectives and its report read it, too."""

from __future__ import annotations

from typing import Literal

from fovea.engine.options import ClassKind, LayerKind, NetworkKind, Options, PositionKind, UnitKind, option

Preset = Literal["lucid", "yosinski", "yosinski-1", "yosinski-2", "yosinski-4", "simonyan", "none", "side-by-side"]


class AscentOptions(Options):
    """What ascent can be told. None or "preset" leaves a setting to the preset."""

    target: str = option(
        "",
        "The class that the picture shall excite.",
        kind=ClassKind(),
        coerce_numbers_to_str=True,
        empty="the photo's top class, or the network's first class where there is no photo",
    )
    layer: str = option(
        "",
        "The layer whose unit the picture shall excite, in the place of a class.",
        kind=LayerKind(),
        empty="a class is excited",
    )
    unit: int | None = option(
        None, "The unit of that layer, by its number from 0.", kind=UnitKind(), ge=0, empty="the layer's first unit"
    )
    position: str = option(
        "sum",
        "Where in the unit's map the activation is raised: sum takes the whole map, which shows a texture; centre "
        "takes its middle, which shows a single object; row,column such as 3,5 takes another position.",
        kind=PositionKind(),
    )
    preset: Preset = option(
        "lucid",
        "Which published way of keeping the picture natural is followed. lucid (Olah 2017) optimises Fourier "
        "coefficients under random transforms and gives the clearest pictures; yosinski (2015, table 1, third row; "
        "yosinski-1, -2 and -4 are the other rows) uses decay, blur and clipping; simonyan (2013) holds down the mean "
        "square; none uses no regulariser and ends in noise; side-by-side makes one picture of each kind to compare.",
    )
    units: str = option(
        "",
        "Several units of the layer, or several classes, each in a picture of its own: a range such as 0-8, or a list "
        "such as 3,7,12.",
        max_length=400,
        coerce_numbers_to_str=True,
        empty="one unit or class alone",
    )
    diversity: int = option(
        1,
        "How many pictures of the same unit or class are made at once. They are kept unlike each other, so that each "
        "shows another side of it (Olah 2017, section Diversity).",
        ge=1,
        le=16,
        unit="pictures",
    )
    steps: int = option(
        160,
        "How many steps the optimiser takes. Most pictures are clear after 160; Lucid takes 512, which adds detail.",
        ge=1,
        le=10000,
        unit="steps",
    )
    size: int | None = option(
        None,
        "The picture's long side. 128 is Lucid's size and quick; a larger picture shows the pattern more often.",
        ge=32,
        le=4096,
        unit="px",
        empty="the network's input size",
    )
    start: Literal["preset", "zero", "noise", "photo"] = option(
        "preset",
        "What the picture is before the first step: preset takes the preset's own start, zero the network's mean "
        "colour (Simonyan 2013), noise weak random noise (Olah 2017), and photo the chosen photo, which shows what "
        "would make it more so.",
    )
    joint: str = option(
        "",
        "A second unit (7, or LAYER:7) or class that the same picture must excite as well (Olah 2017, Interaction "
        "between Neurons). The two are also shown alone, on either side.",
        advanced=True,
        max_length=200,
        coerce_numbers_to_str=True,
        empty="nothing is joined",
    )
    direction: str = option(
        "",
        "A direction in the layer's space that is excited in the place of a unit: pairs of unit and weight such as "
        "3:1,17:-0.5, or photo for the direction in which the chosen photo lies.",
        advanced=True,
        max_length=2000,
        empty="a unit or a class is excited",
    )
    second_network: str = option(
        "",
        "Another network that is asked what it sees in the finished picture. If it sees the same, the picture shows "
        "the thing, and not only a weakness of the first network.",
        kind=NetworkKind(),
        advanced=True,
        empty="no other network is asked",
    )
    free_range: bool = option(
        False,
        "Let pixel values leave the range from black to white, and rescale the result for display. This is off by "
        "default, because the network never sees such values in real pictures.",
        advanced=True,
    )
    score: Literal["logit", "log_probability", "margin"] = option(
        "logit",
        "Which score of a class is raised: its logit (Simonyan 2013: a probability also rises when the other classes "
        "sink), its log_probability, or the margin by which its logit leads the next class.",
        advanced=True,
    )
    diversity_weight: float = option(
        1.0,
        "How strongly several pictures of the same thing are kept unlike each other (Olah 2017). The weight is "
        "relative to the layer's own activations, so that 1 suits every layer.",
        ge=0,
        le=1000,
        advanced=True,
    )
    canvas: Literal["preset", "pixels", "fourier", "pyramid"] = option(
        "preset",
        "What the optimiser moves: preset takes the preset's own; pixels the pixels themselves; fourier the Fourier "
        "coefficients with decorrelated colours, so that large shapes form as fast as fine detail (Olah 2017); pyramid "
        "the sum of pictures of four sizes (Lucid's Laplacian pyramid).",
        advanced=True,
    )
    learning_rate: float | None = option(
        None,
        "How far each step goes. For Lucid's Adam it is 0.05 on Fourier coefficients and 0.01 on pixels; for the "
        "yosinski presets it is how much a step raises the activation, relative to the layer's own activations.",
        gt=0,
        le=1000,
        advanced=True,
        empty="the preset's step",
    )
    l2: float | None = option(
        None,
        "Weight of the mean square of the normalised picture, which holds colours near the network's mean colour "
        "(Simonyan 2013, eq. 1).",
        ge=0,
        advanced=True,
        empty="the preset's weight",
    )
    total_variation: float | None = option(
        None,
        "Weight of the total variation, the squared difference of neighbouring pixels, which smooths the picture "
        "(Mahendran and Vedaldi 2015, eq. 4).",
        ge=0,
        advanced=True,
        empty="the preset's weight",
    )
    jitter: int | None = option(
        None,
        "By how much the picture is randomly shifted before each step, so that it does not hang on exact pixels "
        "(Mordvintsev 2015).",
        ge=0,
        le=64,
        unit="px",
        advanced=True,
        empty="the preset's shift",
    )
    transforms: bool | None = option(
        None,
        "Scale and rotate the picture at random before each step, which keeps fine noise out of it (Olah 2017, "
        "Transformation robustness).",
        advanced=True,
        empty="the preset's choice",
    )
    blur: float | None = option(
        None,
        "Standard deviation of a Gaussian blur after every few steps, which removes fine noise (Yosinski 2015). It "
        "works on the pixels canvas only.",
        ge=0,
        le=10,
        unit="px",
        advanced=True,
        empty="the preset's blur",
    )
    blur_every: int | None = option(
        None,
        "How many steps lie between two blurs (Yosinski 2015, table 1: 4).",
        ge=1,
        unit="steps",
        advanced=True,
        empty="the preset's interval",
    )
    decay: float | None = option(
        None,
        "Which part of the picture's difference from the mean colour is lost at each step (Yosinski 2015). It works on "
        "the pixels canvas only.",
        ge=0,
        lt=1,
        advanced=True,
        empty="the preset's decay",
    )
    clip_norm: float | None = option(
        None,
        "Pixels whose norm lies under this percentile go back to the mean colour, so that only the strongest stay "
        "(Yosinski 2015). It works on the pixels canvas only.",
        ge=0,
        lt=100,
        unit="percentile",
        advanced=True,
        empty="the preset's percentile",
    )
    clip_contribution: float | None = option(
        None,
        "Pixels whose contribution to the activation lies under this percentile go back to the mean colour (Yosinski "
        "2015). It works on the pixels canvas only.",
        ge=0,
        lt=100,
        unit="percentile",
        advanced=True,
        empty="the preset's percentile",
    )
