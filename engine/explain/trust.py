"""Trust: how far one map of one photo can be believed, by deletion and insertion and by re-initialised layers.

Petsiuk et al. 2018 (RISE), section 4.3; Adebayo et al. 2018, "Sanity Checks for Saliency Maps", section 3.
Departures: curves stand beside those of random orders and of a blob in the centre, which need no network to draw;
pixels of equal value go in a random order; layers are re-initialised by shuffling their values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from fovea.engine.errors import UnsupportedError
from fovea.engine.explain.backward.choices import POSITION_HELP, check_class_or_unit
from fovea.engine.explain.maps import family as maps
from fovea.engine.explain.maps.family import MapName
from fovea.engine.method import Job, Method, Result, find_method
from fovea.engine.options import ClassKind, LayerKind, Options, PositionKind, UnitKind, option
from fovea.engine.panels import CurvePanel, GalleryPanel, OverlayPanel, Panel, TablePanel, TextPanel

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from fovea.engine.explain.faithfulness.trial import Changed, Curves, CurveTest
    from fovea.models.card import Card


class TrustOptions(Options):
    """Which map of what is put to the test, and how hard."""

    map: MapName = option("gradient", "The map that is put to the test")
    target: str = option(
        "", "Class that is explained; empty: the network's top class", kind=ClassKind(), coerce_numbers_to_str=True
    )
    layer: str = option("", "Layer whose unit is explained instead of a class", kind=LayerKind())
    unit: int | None = option(None, "Unit of that layer; empty: the one that fires most", kind=UnitKind(), ge=0)
    position: str = option("max", POSITION_HELP, kind=PositionKind())
    steps: int = option(32, "Points of a curve (RISE takes 224 pixels a step)", ge=2, le=1024, unit="steps")
    stages: int = option(
        6,
        "How often more layers are re-initialised, from the top layer to all; 0: no such test",
        ge=0,
        le=500,
        unit="steps",
    )
    agreement: bool = option(True, "Also draw the family's other maps and tell how far they agree with this one")
    random_orders: int = option(3, "Random orders whose curves stand beside the map's", ge=1, le=50, advanced=True)
    deletion_fill: Literal["black", "mean", "blur"] = option(
        "black", "What a deleted pixel becomes: black, the network's mean, the blurred photo", advanced=True
    )
    insertion_fill: Literal["blur", "black", "mean"] = option(
        "blur", "What pixels are inserted into: the blurred photo (RISE), black, the network's mean", advanced=True
    )
    score: Literal["probability", "logit"] = option(
        "probability", "What the curves follow of a class (RISE: its probability)", advanced=True
    )
    settings: str = option("", "Options of the map's own method, such as samples=50, noise=0.1", advanced=True)


def check(card: Card, options: Any) -> None:
    """Raise in one line where the options do not go together or the network does not allow the map."""
    check_class_or_unit(options.target, options.layer, options.unit, options.position)
    if not options.layer and (not card.classes or card.output == "features"):
        raise UnsupportedError(f"{card.name} has no classes: choose a layer and a unit instead")
    if not options.layer and options.score == "logit" and card.output == "probabilities":
        raise UnsupportedError(f"{card.name} returns probabilities, its logits are not known: choose probability")
    subject = maps.Subject(target=options.target or "0", layer=options.layer, unit=options.unit or 0)
    maps.verify(card, options.map, subject, maps.settings_of(options.map, options.settings))


def run(job: Job) -> Result:
    """Array `map` (H, W); tables `deletion`, `insertion`, `areas`, `randomisation`, `agreement` (see the panels).

    `areas`: order, deletion, insertion. `randomisation`: layers, down to, rank correlation, ssim.
    """
    from fovea.engine.explain.faithfulness.trial import CurveTest, randomisation_test
    from fovea.engine.explain.faithfulness.verdict import judge, told_of_score

    options, card = job.options, job.card
    name, settings = options.map, maps.settings_of(options.map, options.settings)
    job.progress(0.0, "drawing the map")
    subject = maps.choose_subject(job, options.target, options.layer, options.unit, options.position)
    values = maps.draw(job, name, subject, settings, told=lambda part: job.progress(0.1 * part, "drawing the map"))
    test = CurveTest(
        job=job,
        subject=subject,
        score=options.score,
        steps=options.steps,
        orders=options.random_orders,
        deletion_fill=options.deletion_fill,
        insertion_fill=options.insertion_fill,
        told=lambda part, words: job.progress(0.1 + 0.3 * part, words),
    )
    curves = test.run(values)
    changed: list[Changed] = []
    if curves is not None and options.stages and card.gradients:
        changed = randomisation_test(
            job,
            subject,
            {name: values},
            {name: settings},
            options.stages,
            lambda f, words: job.progress(0.4 + 0.4 * f, words),
        )[name]
    elif not card.gradients:
        job.warn(f"{card.name} is an ONNX file: its layers cannot be re-initialised, so that test is left out")
    verdict = judge(name, test, curves, changed)
    for line in filter(None, (told_of_score(test), verdict.warning)):
        job.warn(line)
    result = Result(arrays={"map": values}, tables={"areas": _areas(test, curves)})
    result.panels.append(TextPanel(title=verdict.title, help=verdict.text))
    result.panels.append(_map_panel(options, subject.words, bool((values < 0).any())))
    _add_curves(result, test, curves)
    if changed:
        _add_randomisation(result, job, values, changed)
    if options.agreement and curves is not None:
        _add_agreement(result, job, name, subject, values)
    result.summary = _summary(name, subject.words, test, curves, verdict.word, verdict.kept)
    result.preview = _tile(job, values)
    return result


def _tile(job: Job, values: NDArray[Any]) -> NDArray[np.uint8]:
    from fovea.engine.explain.maps.strips import map_tile, scale_of

    return map_tile(job.frame, values, scale_of(values))


def _summary(name: str, words: str, test: CurveTest, curves: Curves | None, word: str, kept: float) -> dict[str, Any]:
    import math

    found: dict[str, Any] = {"map": maps.RECIPES[name].title, "target": words, "verdict": word}
    if curves is not None:
        found |= {
            "deletion": round(curves.deletion_area, 4),
            "deletion, random": round(test.random_deletion, 4),
            "insertion": round(curves.insertion_area, 4),
            "insertion, random": round(test.random_insertion, 4),
        }
        if not math.isnan(kept):
            found["rank correlation, re-initialised"] = round(kept, 3)
    return found


def _map_panel(options: Any, words: str, signed: bool) -> Panel:
    return OverlayPanel(
        title=f"{maps.RECIPES[options.map].title} for {words}",
        help=f"The map that was put to the test{f' ({options.settings})' if options.settings else ''}.",
        image="photo",
        array="map",
        scale="diverging" if signed else "sequential",
        units="the map's own units",
    )


def _areas(test: CurveTest, curves: Curves | None) -> pd.DataFrame:
    import numpy as np
    import pandas as pd

    rows = [("this map", curves.deletion_area, curves.insertion_area)] if curves is not None else []
    rows += [("random order", test.random_deletion, test.random_insertion)]
    rows += [("centre blob", test.centre.deletion_area, test.centre.insertion_area)]
    table = pd.DataFrame(rows, columns=["order", "deletion", "insertion"])
    spread = [[one.deletion_area for one in test.random], [one.insertion_area for one in test.random]]
    table["gain"] = table["insertion"] - table["deletion"]
    table.loc[len(table)] = ["± of random orders", np.std(spread[0]), np.std(spread[1]), np.nan]
    return table.round(4)


def _add_curves(result: Result, test: CurveTest, curves: Curves | None) -> None:
    """The two charts, the map's curve beside those that need no map."""
    import numpy as np
    import pandas as pd

    units = f"{test.score} of {test.subject.words}" if not test.subject.layer else f"value of {test.subject.words}"
    for kind, words in (
        ("deletion", "Pixels are taken away, the map's highest first: the sooner the score falls, the better."),
        ("insertion", "Pixels are put back, the map's highest first: the sooner the score rises, the better."),
    ):
        table = pd.DataFrame({"share of pixels": test.counts / test.counts[-1]})
        if curves is not None:
            table["this map"] = getattr(curves, kind)
        table["random order"] = np.mean([getattr(one, kind) for one in test.random], axis=0)
        table["centre blob"] = getattr(test.centre, kind)
        result.tables[kind] = table
        result.panels.append(
            CurvePanel(
                title=kind.capitalize(),
                help=words,
                table=kind,
                x="share of pixels",
                y=tuple(table.columns[1:]),
                units=units,
            )
        )
    result.panels.append(
        TablePanel(
            title="Areas under the curves",
            help="Of deletion less is better, of insertion more; gain is insertion less deletion.",
            table="areas",
        )
    )


def _add_randomisation(result: Result, job: Job, values: NDArray[Any], changed: list[Changed]) -> None:
    import pandas as pd

    from fovea.engine.explain.maps.strips import TILE
    from fovea.engine.panels.sheet import Sheet

    rows = [(0, "", 1.0, 1.0)] + [(one.layers, one.down_to, one.rank, one.ssim) for one in changed]
    table = pd.DataFrame(rows, columns=["layers", "down to", "rank correlation", "SSIM"])
    table["shows"] = ["trained"] + [
        f"{one.layers} of {one.of}, down to {one.down_to} · rank correlation {one.rank:.2f}" for one in changed
    ]
    result.tables["randomisation"] = table
    tiles = [_tile(job, values), *(_tile(job, one.values) for one in changed)]
    result.images["randomised"] = Sheet(TILE, 4).compose(tiles)
    result.panels += [
        CurvePanel(
            title="As the network forgets",
            help="Likeness to the trained network's map, layers being re-initialised from the top. A map that stays "
            "the same says nothing of the network.",
            table="randomisation",
            x="layers",
            y=("rank correlation", "SSIM"),
            units="likeness",
        ),
        GalleryPanel(
            title="The map, as layers are re-initialised",
            help="Each by its own values: amber speaks for, blue against.",
            image="randomised",
            table="randomisation",
            tile=TILE,
            columns=4,
            caption=("shows",),
        ),
    ]


def _add_agreement(result: Result, job: Job, name: str, subject: maps.Subject, values: NDArray[Any]) -> None:
    """The other maps of the family, drawn in little time, and how far every two of them agree."""
    import pandas as pd

    from fovea.engine.explain.faithfulness.trial import agreement_matrix

    others = [
        one for one in maps.usable(job.card) if one != name and (not subject.layer or maps.RECIPES[one].takes_units)
    ]
    drawn = {name: values}
    for place, other in enumerate(others):
        fraction = 0.8 + 0.2 * place / len(others)

        def told(part: float, fraction: float = fraction, other: str = other) -> None:
            job.progress(fraction, f"drawing {maps.RECIPES[other].title}")

        drawn[other] = maps.draw(job, other, subject, maps.RECIPES[other].lean(job.card), told=told)
    matrix = agreement_matrix(drawn, list(drawn))
    table = pd.DataFrame(matrix, columns=[maps.RECIPES[one].title for one in drawn])
    table.insert(0, "map", [maps.RECIPES[one].title for one in drawn])
    result.arrays["agreement"] = matrix
    result.tables["agreement"] = table
    result.panels.append(
        TablePanel(
            title="Agreement with the family's other maps",
            help="Rank correlation of where two maps point, on a 14 x 14 grid: 1 is the same order, 0 is chance.",
            table="agreement",
        )
    )


def work(card: Card, options: Any, images: int) -> float:
    """Forward passes: the map once for each stage and once more, the curves, the other maps."""
    one = map_work(card, options.map, maps.settings_of(options.map, options.settings))
    curves = 2 * (options.steps + 1) * (options.random_orders + 2)
    others = sum(map_work(card, name, maps.RECIPES[name].lean(card)) for name in maps.usable(card))
    return float(one * (1 + options.stages * card.gradients) + curves + others * options.agreement)


def map_work(card: Card, name: str, settings: dict[str, Any]) -> float:
    """The forward passes that one map of the family costs."""
    method = find_method(maps.RECIPES[name].method)
    if maps.RECIPES[name].by_rule:
        return 3.0
    return method.work(card, maps.map_options(name, maps.Subject(target="0"), settings), 0)


METHOD = Method(
    name="trust",
    title="Trust",
    verb="explain",
    family="Compare and trust",
    question="How far can this map be trusted?",
    summary="Deletion and insertion curves (Petsiuk et al. 2018) and re-initialised layers (Adebayo et al. 2018).",
    options=TrustOptions,
    compute=run,
    work=work,
    check=check,
)
