"""Compare: every map of one photo and class in one grid of one scale, with the figures that say how far to trust each.

The maps are those that the registry's methods declare, the figures those of the method trust. A second class shows why
this and not that; a second network what another one sees.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from fovea.engine.errors import OptionsError, UnknownNameError, UnsupportedError
from fovea.engine.explain.maps.family import family, map_work, title_of, usable
from fovea.engine.maps import ClassOrUnit
from fovea.engine.method import Job, Method, Result
from fovea.engine.options import ClassKind, NetworkKind, Options, option
from fovea.engine.panels import GalleryPanel, Panel, TablePanel, TextPanel

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from fovea.engine.explain.faithfulness.map_tests import Changed, Curves, CurveTest
    from fovea.engine.explain.faithfulness.verdict import Verdict
    from fovea.engine.progress import Progress
    from fovea.models.card import Card


class CompareOptions(Options):
    """What is explained, beside what, and how hard the maps are tested."""

    target: str = option(
        "",
        "The class that the maps explain. Left empty, it is the class that the network finds most likely.",
        kind=ClassKind(),
        empty="the network's top class",
        coerce_numbers_to_str=True,
    )
    second_class: str = option(
        "",
        "Another class whose maps are drawn beside, with the difference: why this class and not that one.",
        kind=ClassKind(),
        empty="none",
        coerce_numbers_to_str=True,
    )
    second_network: str = option(
        "",
        "Another network whose maps for the same class of the photo are drawn beside.",
        kind=NetworkKind(),
        empty="none",
    )
    steps: int = option(
        16,
        "In how many steps the pixels are taken away and put back for a curve. More steps tell maps apart more finely "
        "and take longer.",
        ge=2,
        le=1024,
        unit="steps",
    )
    stages: int = option(
        4,
        "In how many stages the layers are re-initialised, from the top layer alone to all of them. 0 leaves this test "
        "out.",
        ge=0,
        le=500,
        unit="steps",
    )
    random_orders: int = option(
        2,
        "How many random orders of the pixels the curves are compared with. More of them tell chance more surely.",
        ge=1,
        le=50,
        advanced=True,
    )
    score: Literal["probability", "logit"] = option(
        "probability",
        "Which score of the class the curves follow. RISE follows the probability; take the logit where the "
        "probability is saturated or nearly zero.",
        advanced=True,
    )


def check(card: Card, options: CompareOptions) -> None:
    """Raise in one line where the network has no classes, or the second class is the first."""
    if not card.has_classes:
        raise UnsupportedError(f"{card.name} has no classes to compare maps of")
    if options.score == "logit" and not card.meaning.knows_logits:
        raise UnsupportedError(
            f"{card.name} returns probabilities, and its logits are not known: choose the score probability"
        )
    second = card.class_index(options.second_class) if options.second_class else -1
    if options.target and second == card.class_index(options.target):
        raise OptionsError(f"second_class: {card.classes[second]} is the first class: choose another one, or none")


@dataclass
class Row:
    """The maps of one class before one network: the `job` on that network, its maps and their figures by name."""

    job: Job[CompareOptions]
    explained: ClassOrUnit
    title: str
    test: CurveTest
    drawn: dict[str, NDArray[np.float32]]
    curves: dict[str, Curves | None]
    verdicts: dict[str, Verdict]
    agreement: NDArray[np.float64]
    changed: dict[str, list[Changed]] = field(default_factory=dict)


def compute(job: Job[CompareOptions]) -> list[Row]:
    """Every map of every row, and what both tests say of it."""
    job.progress(0.0, "looking at the photo")
    asked = _asked(job)
    parts = [job.progress.span(number / len(asked), (number + 1) / len(asked)) for number in range(len(asked))]
    rows = [_row(job, *row, part) for row, part in zip(asked, parts, strict=True)]
    _warn(job, rows)
    return rows


def _asked(job: Job[CompareOptions]) -> list[tuple[Job[CompareOptions], ClassOrUnit, str]]:
    """The rows that are compared, each with its title: the class, the second class, the class in the second network."""
    from fovea.engine.explain.maps.choosing import class_of, named_or_strongest

    options, card = job.options, job.card
    first = named_or_strongest(job, options.target, "", None, "max")
    rows = [(job, first, first.words)]
    if options.second_class:
        second = class_of(card, card.class_index(options.second_class))
        if second.target == first.target:
            raise OptionsError(f"second_class: {second.words} is the network's top class: choose another one, or none")
        rows.append((job, second, second.words))
    if options.second_network:
        other = _other_job(job)
        same = _same_class(other, first)
        rows[0] = (job, first, f"{first.words} · {card.name}")
        rows.append((other, same, f"{same.words} · {other.card.name}"))
    return rows


def _other_job(job: Job[CompareOptions]) -> Job[CompareOptions]:
    """The same photo before the second network. Raises what loading it raises."""
    from fovea.models.zoo import load

    if job.options.second_network == job.card.name:
        raise OptionsError(f"second_network: {job.card.name} is the first network: choose another one, or none")
    other = load(job.options.second_network)
    if other.card.random:
        job.warn(f"{other.card.name} has random weights: nothing that it shows was learned")
    return dataclasses.replace(job, network=other)


def _same_class(job: Job[CompareOptions], explained: ClassOrUnit) -> ClassOrUnit:
    """The class of that name in another network, or its own top class where it has none of that name."""
    from fovea.engine.explain.maps.choosing import class_of, top_class

    try:
        return class_of(job.card, job.card.class_index(explained.words))
    except UnknownNameError:
        own = top_class(job)
        job.warn(f"{job.card.name} has no class {explained.words}: its top class, {own.words}, is shown instead")
        return own


def _row(
    job: Job[CompareOptions], own: Job[CompareOptions], explained: ClassOrUnit, title: str, progress: Progress
) -> Row:
    """Draw a row's maps and put each to the tests; `own` is the job on the row's network."""
    from fovea.engine.explain.faithfulness.map_tests import CurveTest, randomisation_test
    from fovea.engine.explain.faithfulness.metrics import agreement_matrix
    from fovea.engine.explain.faithfulness.verdict import caveat_of_score, judge

    card, options, progress = own.card, job.options, progress.under(title)
    settings = {name: family()[name].quick(card) for name in usable(card)}
    drawn = _draw_all(own, explained, settings, progress.span(0.0, 0.25))
    test = CurveTest(
        job=own,
        explained=explained,
        score=options.score,
        steps=options.steps,
        orders=options.random_orders,
        deletion_fill="black",
        insertion_fill="blur",
        progress=progress.span(0.25, 0.32),
    )
    curves: dict[str, Curves | None] = {}
    for number, (name, values) in enumerate(drawn.items()):
        progress.span(0.32, 0.6)(number / len(drawn), f"deletion and insertion by {title_of(name)}")
        curves[name] = test.run(values)
    ordered = {name: values for name, values in drawn.items() if curves[name] is not None}
    changed: dict[str, list[Changed]] = {}
    if options.stages and card.has_module and ordered:
        changed = randomisation_test(own, explained, ordered, settings, options.stages, progress.span(0.6, 1.0))
    if not card.has_module:
        job.warn(f"{card.name} is an ONNX file: {ONNX_FILE}")
    elif not card.gradients:
        job.warn(card.no_gradients)
    verdicts = {name: judge(name, test, curves[name], changed.get(name, [])) for name in drawn}
    if caveat := caveat_of_score(test):
        job.warn(caveat)
    return Row(own, explained, title, test, drawn, curves, verdicts, agreement_matrix(list(drawn.values())), changed)


ONNX_FILE = "only maps that need no gradients are drawn, and its layers cannot be re-initialised"


def _draw_all(
    job: Job[CompareOptions],
    explained: ClassOrUnit,
    settings: dict[str, dict[str, Any]],
    progress: Progress,
) -> dict[str, NDArray[np.float32]]:
    """The maps by name, drawn with these settings; the grid is shown as it grows, each map on its own scale."""
    from fovea.engine.explain.maps.drawing import draw
    from fovea.engine.explain.maps.map_tiles import TILE, map_tile, photo_tile, scale_of
    from fovea.engine.panels.sheet import Sheet

    drawn: dict[str, NDArray[np.float32]] = {}
    tiles = [photo_tile(job.frame)]
    for number, (name, chosen) in enumerate(settings.items()):
        part = progress.span(number / len(settings), (number + 1) / len(settings))
        drawn[name] = draw(job, name, explained, chosen, progress=part.saying(title_of(name)))
        tiles.append(map_tile(job.frame, drawn[name], scale_of(drawn[name])))
        part(1.0, title_of(name), Sheet(TILE, 4).compose(tiles))
    return drawn


def _warn(job: Job[CompareOptions], rows: list[Row]) -> None:
    """One line for the maps without an order, and one for each that fails the test for which it is known."""
    flat = {name: None for row in rows for name, verdict in row.verdicts.items() if verdict.word == "no order"}
    if flat:
        titles = ", ".join(title_of(name) for name in flat)
        job.warn(f"constant: {titles}; a map without an order cannot be tested")
    for name, member in family().items():
        warned = [row.verdicts[name] for row in rows if name in row.verdicts and row.verdicts[name].warning]
        known = [verdict for verdict in warned if member.map.known and verdict.word != "no order"]
        if known:
            job.warn(max(known, key=lambda verdict: verdict.kept).warning)


def report(job: Job[CompareOptions], rows: list[Row]) -> Result:
    """Table `trust`: of, map, verdict and figures. Arrays: every map (H, W) as `map_ROW_NAME`, ROW from 0.

    Images `maps_ROW`: the grid; with a second class also `difference`.
    """
    result = Result(tables={"trust": _table(rows)}, summary=_summary(rows))
    for number, row in enumerate(rows):
        for name, values in row.drawn.items():
            result.arrays[f"map_{number}_{name.replace('+', 'p')}"] = values
    result.panels += [_verdict_panel(row, alone=len(rows) == 1) for row in rows]
    _add_grids(result, rows)
    result.panels += [
        TablePanel(title="How far to trust each", help="Click a column to sort the table by it.", table="trust"),
        TextPanel(title="How to read the figures", help=FIGURES),
    ]
    _add_agreement(result, rows)
    result.preview = "maps_0"
    return result


def _table(rows: list[Row]) -> pd.DataFrame:
    """The figures of every map, and of the orders that need no map, in one sortable table."""
    import numpy as np
    import pandas as pd

    from fovea.engine.explain.faithfulness.verdict import mean_rank, mean_ssim

    lines: list[dict[str, Any]] = []
    for row in rows:
        for number, (name, curves) in enumerate(row.curves.items()):
            others = np.delete(row.agreement[number], number)
            lines.append(
                {
                    "of": row.title,
                    "map": title_of(name),
                    "verdict": row.verdicts[name].word,
                    "deletion": curves.deletion_area if curves else np.nan,
                    "insertion": curves.insertion_area if curves else np.nan,
                    "gain": row.verdicts[name].gain,
                    "rank correlation": mean_rank(row.changed.get(name, [])),
                    "SSIM": mean_ssim(row.changed.get(name, [])),
                    "agreement": float(np.nanmean(others)) if np.isfinite(others).any() else np.nan,
                }
            )
        for title, deletion, insertion in (
            ("(random order)", row.test.random_deletion, row.test.random_insertion),
            ("(centre blob)", row.test.centre.deletion_area, row.test.centre.insertion_area),
        ):
            figures = {"deletion": deletion, "insertion": insertion, "gain": insertion - deletion}
            lines.append({"of": row.title, "map": title, "verdict": "", **figures})
    table = pd.DataFrame(lines)
    figures_of = [name for name in table if table[name].dtype.kind == "f"]
    table[figures_of] = table[figures_of].round(3)
    return table if len(rows) > 1 else table.drop(columns="of")


def _titles(row: Row, word: str) -> str:
    """The maps whose verdict is that word."""
    return ", ".join(title_of(name) for name, verdict in row.verdicts.items() if verdict.word == word)


def _summary(rows: list[Row]) -> dict[str, Any]:
    first = rows[0]
    best = max(first.verdicts, key=lambda name: _rank(first.verdicts[name]))
    return {
        "target": first.explained.words,
        **({"beside": ", ".join(row.title for row in rows[1:])} if rows[1:] else {}),
        first.test.score: round(first.test.clean, 4),
        "hold up": _titles(first, "holds up") or "none",
        "photo, not network": _titles(first, "photo, not network") or "none",
        "largest gain": title_of(best),
    }


def _rank(verdict: Verdict) -> float:
    return -float("inf") if verdict.gain != verdict.gain else verdict.gain


VERDICTS = {
    "holds up": "These maps hold up in both tests",
    "with care": "These should be read with care",
    "misses": "These find no more than a random order does",
    "photo, not network": "These show the photo more than the network, since they hardly change when it forgets",
    "no order": "These are constant",
}
"""What a verdict's word says of the maps that have it."""


def _verdict_panel(row: Row, alone: bool) -> Panel:
    """Which maps hold up, in plain words."""
    lines = [f"{words}: {_titles(row, word)}." for word, words in VERDICTS.items() if _titles(row, word)]
    title = "Which of these maps to trust" if alone else f"Which maps to trust: {row.title}"
    return TextPanel(title=title, help=" ".join(lines))


def _add_grids(result: Result, rows: list[Row]) -> None:
    """A grid for each row, and what tells the first class from the second."""
    from fovea.engine.explain.maps.map_tiles import TILE, map_tile, photo_tile, scale_of
    from fovea.engine.panels.sheet import Sheet

    shared = [row for row in rows if row.job is rows[0].job]
    scales = {name: max(scale_of(row.drawn[name]) for row in shared) for name in rows[0].drawn}
    for number, row in enumerate(rows):
        own = scales if row.job is rows[0].job else {name: scale_of(values) for name, values in row.drawn.items()}
        tiles = [photo_tile(row.job.frame)]
        tiles += [map_tile(row.job.frame, values, own[name]) for name, values in row.drawn.items()]
        result.images[f"maps_{number}"] = Sheet(TILE, 4).compose(tiles)
        result.tables[f"maps_{number}"] = _captions(row)
        result.panels.append(_grid(f"maps_{number}", row.title, SCALE if number == 0 else "", ("map", "told")))
    if len(shared) > 1:
        first, second = shared
        tiles = [photo_tile(first.job.frame)]
        tiles += [map_tile(first.job.frame, first.drawn[n] - second.drawn[n], scales[n]) for n in first.drawn]
        result.images["difference"] = Sheet(TILE, 4).compose(tiles)
        result.tables["difference"] = _captions(first)[["map"]]
        title = f"Why {first.title}, and not {second.title}"
        help = (
            f"Each map of {second.title} is taken from that of {first.title}, on their common scale: amber speaks more "
            f"for {first.title}, blue more for {second.title}."
        )
        result.panels.append(_grid("difference", title, help, ("map",)))


SCALE = (
    "All maps share one way of colouring: amber speaks for the class, blue against it. Full strength is the 99.9th "
    "percentile of a map's values, and two classes of one network share it."
)


FIGURES = (
    "Deletion is the area under the score while pixels are taken away, those that the map ranks highest first; less is "
    "better. Insertion is the area while they are put back; more is better. Gain is insertion less deletion: compare "
    "it with the two rows in brackets, which need no map. Rank correlation and SSIM tell how much the map still "
    "resembles itself when the network's layers are re-initialised from the top, on average while the first layer "
    "stands: near 1, the map shows the photo and not the network. Agreement is the mean rank correlation with the "
    "other maps."
)


def _captions(row: Row) -> pd.DataFrame:
    import pandas as pd

    lines = [("photo", f"{row.test.score} {row.test.clean:.3g}")]
    for name, curves in row.curves.items():
        figures = "" if curves is None else f" · gain {row.verdicts[name].gain:.2f}"
        lines.append((title_of(name), f"{row.verdicts[name].word}{figures}"))
    return pd.DataFrame(lines, columns=["map", "told"])


def _grid(name: str, title: str, help: str, caption: tuple[str, ...]) -> Panel:
    from fovea.engine.explain.maps.map_tiles import TILE

    return GalleryPanel(title=title, help=help, image=name, table=name, tile=TILE, columns=4, caption=caption)


def _add_agreement(result: Result, rows: list[Row]) -> None:
    import pandas as pd

    for number, row in enumerate(rows):
        titles = [title_of(name) for name in row.drawn]
        table = pd.DataFrame(row.agreement.round(2), columns=titles)
        table.insert(0, "map", titles)
        result.tables[f"agreement_{number}"] = table
        result.panels.append(
            TablePanel(
                title="Agreement" if len(rows) == 1 else f"Agreement: {row.title}",
                help="The rank correlation of where two maps point, on a grid of 14 x 14 cells: 1 is the same order, 0 "
                "is chance.",
                table=f"agreement_{number}",
            )
        )


def work(card: Card, options: CompareOptions, images: int) -> float:
    """Forward passes of every row: its maps, the same again for each stage, their curves and the baselines'."""
    names, members = usable(card), family()
    drawn = sum(map_work(card, name, members[name].quick(card)) for name in names)
    curves = 2 * (options.steps + 1) * (len(names) + options.random_orders + 1)
    rows = 1 + bool(options.second_class) + bool(options.second_network)
    return float(rows * (drawn * (1 + options.stages * card.has_module) + curves))


METHOD = Method(
    name="compare",
    title="Compare",
    verb="explain",
    family="Compare and trust",
    question="Which map of this photo can be trusted?",
    summary="Draws all maps of a photo in one grid and tests each, also for a second class or network.",
    options=CompareOptions,
    compute=compute,
    report=report,
    work=work,
    check=check,
)
