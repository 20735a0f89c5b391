"""Trust: how far one map of one photo can be believed, by deletion and insertion and by re-initialised layers.

Petsiuk et al. 2018 (RISE), section 4.3; Adebayo et al. 2018, "Sanity Checks for Saliency Maps", section 3.
Departures: curves stand beside those of random orders and of a blob in the centre, which need no network to draw;
pixels of equal value go in a random order; layers are re-initialised by shuffling their values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from fovea.engine.errors import UnsupportedError
from fovea.engine.explain.maps.family import (
    family,
    map_names,
    map_work,
    settings_of,
    title_of,
    usable,
    verify,
)
from fovea.engine.maps import ClassOrUnit
from fovea.engine.method import Job, Lead, Method, Result
from fovea.engine.options import (
    POSITION_HELP,
    ChoiceKind,
    ClassKind,
    LayerKind,
    Options,
    PositionKind,
    UnitKind,
    check_class_or_unit,
    option,
)
from fovea.engine.panels import CurvePanel, GalleryPanel, OverlayPanel, Panel, TablePanel, TextPanel

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from fovea.engine.explain.faithfulness.map_tests import Changed, Curves, CurveTest
    from fovea.engine.explain.faithfulness.verdict import Verdict
    from fovea.models.card import Card


class TrustOptions(Options):
    """Which map of what is put to the test, and how hard."""

    map: str = option("gradient", "The map that is put to the test.", kind=ChoiceKind("map", map_names))
    target: str = option(
        "",
        "The class that the map explains. Left empty, it is the class that the network finds most likely.",
        kind=ClassKind(),
        empty="the network's top class",
        coerce_numbers_to_str=True,
    )
    layer: str = option(
        "",
        "Let the map explain a unit of this layer instead of a class.",
        kind=LayerKind(),
        empty="a class is explained",
    )
    unit: int | None = option(
        None,
        "The unit of that layer. Left empty, it is the one that fires most on the photo.",
        kind=UnitKind(),
        empty="the one that fires most",
        ge=0,
    )
    position: str = option("max", POSITION_HELP, kind=PositionKind())
    steps: int = option(
        32,
        "In how many steps the pixels are taken away and put back. More steps make smoother curves and take longer; "
        "RISE changes 224 pixels a step.",
        ge=2,
        le=1024,
        unit="steps",
    )
    stages: int = option(
        6,
        "In how many stages the layers are re-initialised, from the top layer alone to all of them. 0 leaves this test "
        "out.",
        ge=0,
        le=500,
        unit="steps",
    )
    agreement: bool = option(True, "Also draw the other maps of the photo and tell how far they agree with this one.")
    random_orders: int = option(
        3,
        "How many random orders of the pixels the map's curves are compared with. More of them tell chance more "
        "surely.",
        ge=1,
        le=50,
        advanced=True,
    )
    deletion_fill: Literal["black", "mean", "blur"] = option(
        "black",
        "What takes the place of a deleted pixel: black, the network's mean colour, or the photo blurred.",
        advanced=True,
    )
    insertion_fill: Literal["blur", "black", "mean"] = option(
        "blur",
        "What the pixels are inserted into: the photo blurred (as RISE does), black, or the network's mean colour.",
        advanced=True,
    )
    score: Literal["probability", "logit"] = option(
        "probability",
        "Which score of the class the curves follow. RISE follows the probability; take the logit where the "
        "probability is saturated or nearly zero.",
        advanced=True,
    )
    settings: str = option(
        "",
        "Options of the map's own method, such as samples=50, noise=0.1. Left empty, the method's defaults hold.",
        empty="the method's defaults",
        advanced=True,
    )


def check(card: Card, options: TrustOptions) -> None:
    """Raise in one line where the options do not go together or the network does not allow the map."""
    check_class_or_unit(options.target, options.layer, options.unit)
    if not options.layer and not card.has_classes:
        raise UnsupportedError(f"{card.name} has no classes: choose a layer and a unit instead")
    if not options.layer and options.score == "logit" and not card.meaning.knows_logits:
        raise UnsupportedError(
            f"{card.name} returns probabilities, and its logits are not known: choose the score probability"
        )
    explained = ClassOrUnit(target=options.target or "0", layer=options.layer, unit=options.unit or 0)
    verify(card, options.map, explained, settings_of(options.map, options.settings))


@dataclass(frozen=True)
class Findings:
    """What was `explained`, its map `values` (H, W), and what the tests say of it.

    `test` holds the baselines' curves, `curves` are the map's (None for a constant map), `changed` the map at each
    stage of re-initialised layers. `drawn`: this and the other maps by name, where their agreement is asked.
    """

    explained: ClassOrUnit
    values: NDArray[np.float32]
    test: CurveTest
    curves: Curves | None
    changed: list[Changed]
    verdict: Verdict
    drawn: dict[str, NDArray[np.float32]]


def compute(job: Job[TrustOptions]) -> Findings:
    """Draw the map, run both tests on it, and judge it."""
    from fovea.engine.explain.faithfulness.map_tests import CurveTest, randomisation_test
    from fovea.engine.explain.faithfulness.verdict import caveat_of_score, judge
    from fovea.engine.explain.maps.choosing import named_or_strongest
    from fovea.engine.explain.maps.drawing import draw

    options, card, name = job.options, job.card, job.options.map
    settings = settings_of(name, options.settings)
    job.progress(0.0, "drawing the map")
    explained = named_or_strongest(job, options.target, options.layer, options.unit, options.position)
    values = draw(job, name, explained, settings, progress=job.progress.span(0.0, 0.1).saying("drawing the map"))
    test = CurveTest(
        job=job,
        explained=explained,
        score=options.score,
        steps=options.steps,
        orders=options.random_orders,
        deletion_fill=options.deletion_fill,
        insertion_fill=options.insertion_fill,
        progress=job.progress.span(0.1, 0.4),
    )
    curves = test.run(values)
    changed: list[Changed] = []
    if curves is not None and options.stages and card.has_module:
        part = job.progress.span(0.4, 0.8)
        changed = randomisation_test(job, explained, {name: values}, {name: settings}, options.stages, part)[name]
    elif not card.has_module:
        job.warn(f"{card.name} is an ONNX file: its layers cannot be re-initialised, so that test is left out")
    verdict = judge(name, test, curves, changed)
    for line in filter(None, (caveat_of_score(test), verdict.warning)):
        job.warn(line)
    drawn = _others(job, explained, {name: values}) if options.agreement and curves is not None else {}
    return Findings(explained, values, test, curves, changed, verdict, drawn)


def _others(
    job: Job[TrustOptions], explained: ClassOrUnit, drawn: dict[str, NDArray[np.float32]]
) -> dict[str, NDArray[np.float32]]:
    """The maps that are `drawn`, and the family's others, drawn in little time."""
    from fovea.engine.explain.maps.drawing import draw

    members, progress = family(), job.progress.span(0.8, 1.0)
    names = [
        name for name in usable(job.card) if name not in drawn and (not explained.layer or members[name].takes_units)
    ]
    others = {}
    for number, name in enumerate(names):
        part = progress.span(number / len(names), (number + 1) / len(names)).saying(f"drawing {members[name].title}")
        others[name] = draw(job, name, explained, members[name].quick(job.card), progress=part)
    return drawn | others


def report(job: Job[TrustOptions], findings: Findings) -> Result:
    """Array `map` (H, W); tables `deletion`, `insertion`, `areas`, `randomisation`, `agreement` (see the panels).

    `areas`: order, deletion, insertion. `randomisation`: layers, down to, rank correlation, ssim.
    """
    values, verdict = findings.values, findings.verdict
    result = Result(arrays={"map": values}, tables={"areas": _areas(findings)})
    result.panels.append(TextPanel(title=verdict.title, help=verdict.text))
    result.panels.append(_map_panel(job.options, findings.explained.words, bool((values < 0).any())))
    _add_curves(result, findings)
    if findings.changed:
        _add_randomisation(job, result, findings)
    if findings.drawn:
        _add_agreement(result, findings.drawn)
    result.summary = _summary(job.options.map, findings)
    result.preview = _tile(job, values)
    return result


def _tile(job: Job[TrustOptions], values: NDArray[Any]) -> NDArray[np.uint8]:
    from fovea.engine.explain.maps.map_tiles import map_tile, scale_of

    return map_tile(job.frame, values, scale_of(values))


def _summary(name: str, findings: Findings) -> dict[str, Any]:
    import math

    test, curves, verdict = findings.test, findings.curves, findings.verdict
    summary = {"map": title_of(name), "target": findings.explained.words, "verdict": verdict.word}
    if curves is None:
        return summary
    figures = {
        "deletion": round(curves.deletion_area, 4),
        "deletion, random": round(test.random_deletion, 4),
        "insertion": round(curves.insertion_area, 4),
        "insertion, random": round(test.random_insertion, 4),
    }
    if not math.isnan(verdict.kept):
        figures["rank correlation, re-initialised"] = round(verdict.kept, 3)
    return summary | figures


def _map_panel(options: TrustOptions, words: str, signed: bool) -> Panel:
    return OverlayPanel(
        title=f"{title_of(options.map)} for {words}",
        help=f"This map was put to the test{f' ({options.settings})' if options.settings else ''}.",
        image="photo",
        array="map",
        scale="diverging" if signed else "sequential",
        units="the map's own units",
    )


def _areas(findings: Findings) -> pd.DataFrame:
    import numpy as np
    import pandas as pd

    test, curves = findings.test, findings.curves
    rows = [("this map", curves.deletion_area, curves.insertion_area)] if curves is not None else []
    rows += [("random order", test.random_deletion, test.random_insertion)]
    rows += [("centre blob", test.centre.deletion_area, test.centre.insertion_area)]
    table = pd.DataFrame(rows, columns=["order", "deletion", "insertion"])
    table["gain"] = table["insertion"] - table["deletion"]
    spread = np.std(test.random_deletions), np.std(test.random_insertions)
    table.loc[len(table)] = ["± of random orders", *spread, np.nan]
    return table.round(4)


def _add_curves(result: Result, findings: Findings) -> None:
    """The two charts, the map's curve beside those that need no map."""
    import numpy as np
    import pandas as pd

    test, curves, words = findings.test, findings.curves, findings.explained.words
    units = f"value of {words}" if findings.explained.layer else f"{test.score} of {words}"
    for kind, help in (
        (
            "deletion",
            "The photo's pixels are taken away, those that the map ranks highest first. The sooner the score falls, "
            "the better the map.",
        ),
        (
            "insertion",
            "The photo's pixels are put back, those that the map ranks highest first. The sooner the score rises, the "
            "better the map.",
        ),
    ):
        table = pd.DataFrame({"share of pixels": test.counts / test.counts[-1]})
        if curves is not None:
            table["this map"] = getattr(curves, kind)
        table["random order"] = np.mean([getattr(order, kind) for order in test.random], axis=0)
        table["centre blob"] = getattr(test.centre, kind)
        result.tables[kind] = table
        result.panels.append(
            CurvePanel(
                title=kind.capitalize(),
                help=help,
                table=kind,
                x="share of pixels",
                y=tuple(table.columns[1:]),
                units=units,
            )
        )
    result.panels.append(
        TablePanel(
            title="Areas under the curves",
            help="A good map has a small area under the deletion curve and a large one under the insertion curve. The "
            "gain is the insertion area less the deletion area.",
            table="areas",
        )
    )


def _add_randomisation(job: Job[TrustOptions], result: Result, findings: Findings) -> None:
    import pandas as pd

    from fovea.engine.explain.maps.map_tiles import TILE
    from fovea.engine.panels.sheet import Sheet

    changed = findings.changed
    rows = [(0, "", 1.0, 1.0)] + [(stage.layers, stage.down_to, stage.rank, stage.ssim) for stage in changed]
    table = pd.DataFrame(rows, columns=["layers", "down to", "rank correlation", "SSIM"])
    table["shows"] = ["trained"] + [
        f"{stage.layers} of {stage.of}, down to {stage.down_to} · rank correlation {stage.rank:.2f}"
        for stage in changed
    ]
    result.tables["randomisation"] = table
    tiles = [_tile(job, findings.values), *(_tile(job, stage.values) for stage in changed)]
    result.images["randomised"] = Sheet(TILE, 4).compose(tiles)
    result.panels += [
        CurvePanel(
            title="As the network forgets",
            help="How much the map still resembles that of the trained network when more and more layers, from the top "
            "down, are re-initialised. A map that stays the same says nothing of the network.",
            table="randomisation",
            x="layers",
            y=("rank correlation", "SSIM"),
            units="likeness",
        ),
        GalleryPanel(
            title="The map, as layers are re-initialised",
            help="Each map is drawn on its own scale: amber speaks for what is explained, blue against it.",
            image="randomised",
            table="randomisation",
            tile=TILE,
            columns=4,
            caption=("shows",),
        ),
    ]


def _add_agreement(result: Result, drawn: Mapping[str, NDArray[Any]]) -> None:
    """How far every two maps agree."""
    import pandas as pd

    from fovea.engine.explain.faithfulness.metrics import agreement_matrix

    matrix, titles = agreement_matrix(list(drawn.values())), [title_of(name) for name in drawn]
    table = pd.DataFrame(matrix, columns=titles)
    table.insert(0, "map", titles)
    result.arrays["agreement"] = matrix
    result.tables["agreement"] = table
    result.panels.append(
        TablePanel(
            title="Agreement with the other maps",
            help="The rank correlation of where two maps point, on a grid of 14 x 14 cells: 1 is the same order, 0 is "
            "chance.",
            table="agreement",
        )
    )


def work(card: Card, options: TrustOptions, images: int) -> float:
    """Forward passes: the map once for each stage and once more, the curves, the other maps."""
    members = family()
    one_map = map_work(card, options.map, settings_of(options.map, options.settings))
    curves = 2 * (options.steps + 1) * (options.random_orders + 2)
    others = sum(map_work(card, name, members[name].quick(card)) for name in usable(card))
    return float(one_map * (1 + options.stages * card.has_module) + curves + others * options.agreement)


def leads_from(method: Method[Any, Any]) -> Lead | None:
    """What a finished run of a map's method leads to: the same map put to the test."""
    members = {name: member for name, member in family().items() if member.method is method}
    if not members:
        return None

    def options(finished: Mapping[str, Any], summary: Mapping[str, Any]) -> dict[str, Any]:
        def likeness(name: str) -> tuple[bool, ...]:
            return tuple(finished.get(key) == value for key, value in members[name].map.options.items())

        name = max(members, key=likeness)
        member = members[name]
        usual = method.options().model_dump() | dict(member.map.options)
        free = {key: value for key, value in finished.items() if key not in member.naming}
        changed = {key: value for key, value in free.items() if value != usual.get(key)}
        asked: dict[str, Any] = {"map": name}
        if changed:
            # A comma list has no place among settings, which stand between commas themselves.
            settings = {key: value for key, value in changed.items() if value is not None and "," not in str(value)}
            asked["settings"] = ", ".join(f"{key}={value}" for key, value in settings.items())
        # What the run chose by itself is in its summary: the layer and unit of guided backprop, say.
        if member.takes_units and (finished.get("layer") or "target" not in summary):
            for key in ("layer", "unit", "position"):
                value = summary.get(key) if finished.get(key) in (None, "") else finished[key]
                if value not in (None, ""):
                    asked[key] = value
        elif finished.get("target"):
            asked["target"] = finished["target"]
        return asked

    return Lead("How far to trust this map", METHOD.name, options)


METHOD = Method(
    name="trust",
    title="Trust",
    verb="explain",
    family="Compare and trust",
    question="How far can this map be trusted?",
    summary="Tests a map by deletion and insertion (Petsiuk 2018) and by re-initialised layers (Adebayo 2018).",
    options=TrustOptions,
    compute=compute,
    report=report,
    work=work,
    check=check,
    leads_from=leads_from,
)
