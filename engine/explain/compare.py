"""Compare: every map of one photo and class in one grid of one scale, with the figures that say how far to trust each.

The maps are those of saliency, guided backprop, Grad-CAM and occlusion, the figures those of the method trust. A second
class shows why this and not that; a second network what another one sees.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from fovea.engine.errors import OptionsError, UnknownNameError, UnsupportedError
from fovea.engine.explain.maps import family as maps
from fovea.engine.explain.maps.family import Subject
from fovea.engine.method import Job, Method, Result
from fovea.engine.options import ClassKind, NetworkKind, Options, option
from fovea.engine.panels import GalleryPanel, Panel, TablePanel, TextPanel

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from fovea.engine.explain.faithfulness.trial import Changed, Curves, CurveTest
    from fovea.engine.explain.faithfulness.verdict import Verdict
    from fovea.models.card import Card


class CompareOptions(Options):
    """What is explained, beside what, and how hard the maps are tested."""

    target: str = option(
        "", "Class that is explained; empty: the network's top class", kind=ClassKind(), coerce_numbers_to_str=True
    )
    second_class: str = option(
        "", "Another class, for why this and not that; empty: none", kind=ClassKind(), coerce_numbers_to_str=True
    )
    second_network: str = option("", "Another network that explains the same class of the photo", kind=NetworkKind())
    steps: int = option(16, "Points of a deletion or insertion curve", ge=2, le=1024, unit="steps")
    stages: int = option(
        4,
        "How often more layers are re-initialised, from the top layer to all; 0: no such test",
        ge=0,
        le=500,
        unit="steps",
    )
    random_orders: int = option(2, "Random orders that the curves are compared with", ge=1, le=50, advanced=True)
    score: Literal["probability", "logit"] = option(
        "probability", "What the curves follow of a class (RISE: its probability)", advanced=True
    )


def check(card: Card, options: Any) -> None:
    """Raise in one line where the network has no classes, or the second class is the first."""
    if not card.classes or card.output == "features":
        raise UnsupportedError(f"{card.name} has no classes to compare maps of")
    if options.score == "logit" and card.output == "probabilities":
        raise UnsupportedError(f"{card.name} returns probabilities, its logits are not known: choose probability")
    second = card.class_index(options.second_class) if options.second_class else -1
    if options.target and second == card.class_index(options.target):
        raise OptionsError(f"second_class: {card.classes[second]} is the first class: choose another one, or none")


@dataclass
class Row:
    """One subject's maps: the `job` on its network, what is explained, its maps and their figures by name."""

    job: Job
    subject: Subject
    title: str
    drawn: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    curves: dict[str, Curves | None] = field(default_factory=dict)
    changed: dict[str, list[Changed]] = field(default_factory=dict)
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    test: CurveTest | None = None
    agreement: NDArray[np.float64] | None = None


def run(job: Job) -> Result:
    """Table `trust`: of, map, verdict and figures. Arrays: every map (H, W) as `map_ROW_NAME`, ROW from 0.

    Images `maps_ROW`: the grid; with a second class also `difference`.
    """
    rows = _rows(job)
    for place, row in enumerate(rows):
        _measure(row, job, place / len(rows), 1 / len(rows))
    _warn(job, rows)
    result = Result(tables={"trust": _table(rows)}, summary=_summary(rows))
    for place, row in enumerate(rows):
        for name, values in row.drawn.items():
            result.arrays[f"map_{place}_{name.replace('+', 'p')}"] = values
    result.panels += [_verdict_panel(row, alone=len(rows) == 1) for row in rows]
    _add_grids(result, rows)
    result.panels += [
        TablePanel(title="How far to trust each", help="A click on a column sorts by it.", table="trust"),
        TextPanel(title="How to read the figures", help=FIGURES),
    ]
    _add_agreement(result, rows)
    result.preview = "maps_0"
    return result


def _rows(job: Job) -> list[Row]:
    """The subjects that are compared: the class, the second class, the class in the second network."""
    options, card = job.options, job.card
    job.progress(0.0, "looking at the photo")
    first = maps.choose_subject(job, options.target, "", None, "max")
    rows = [Row(job, first, first.words)]
    if options.second_class:
        second = maps.class_subject(card, card.class_index(options.second_class))
        if second.target == first.target:
            raise OptionsError(f"second_class: {second.words} is the network's top class: choose another one, or none")
        rows.append(Row(job, second, second.words))
    if options.second_network:
        other = _other_job(job)
        subject = _same_class(other, first)
        rows[0].title = f"{first.words} · {card.name}"
        rows.append(Row(other, subject, f"{subject.words} · {other.card.name}"))
    return rows


def _other_job(job: Job) -> Job:
    """The same photo before the second network. Raises what loading it raises."""
    from fovea.models.zoo import load

    if job.options.second_network == job.card.name:
        raise OptionsError(f"second_network: {job.card.name} is the first network: choose another one, or none")
    other = load(job.options.second_network)
    if other.card.random:
        job.warn(f"{other.card.name} has random weights: nothing that it shows was learned")
    return dataclasses.replace(job, network=other)


def _same_class(job: Job, subject: Subject) -> Subject:
    """The class of that name in another network, or its own top class where it has none of that name."""
    try:
        return maps.class_subject(job.card, job.card.class_index(subject.words))
    except UnknownNameError:
        own = maps.choose_subject(job, "", "", None, "max")
        job.warn(f"{job.card.name} has no class {subject.words}: its top class, {own.words}, is shown instead")
        return own


def _measure(row: Row, job: Job, start: float, share: float) -> None:
    """Draw the row's maps and put each to the tests."""
    from fovea.engine.explain.faithfulness.trial import CurveTest, agreement_matrix, randomisation_test
    from fovea.engine.explain.faithfulness.verdict import judge, told_of_score

    card, options = row.job.card, job.options
    names = maps.usable(card)
    settings = {name: maps.RECIPES[name].lean(card) for name in names}

    def part(low: float, high: float) -> Callable[[float, str], None]:
        return lambda fraction, words: job.progress(
            start + share * (low + (high - low) * fraction), f"{row.title}: {words}"
        )

    tell = part(0.0, 0.25)
    for place, name in enumerate(names):

        def drawing(fraction: float, place: int = place, name: str = name) -> None:
            tell((place + fraction) / len(names), maps.RECIPES[name].title)

        row.drawn[name] = maps.draw(row.job, name, row.subject, settings[name], told=drawing)
        done = start + share * 0.25 * (place + 1) / len(names)
        job.progress(done, f"{row.title}: {maps.RECIPES[name].title}", preview=_drawn_so_far(row))
    tell = part(0.25, 0.6)
    row.test = CurveTest(
        job=row.job,
        subject=row.subject,
        score=options.score,
        steps=options.steps,
        orders=options.random_orders,
        deletion_fill="black",
        insertion_fill="blur",
        told=lambda fraction, words: tell(0.2 * fraction, words),
    )
    for place, (name, values) in enumerate(row.drawn.items()):
        tell(0.2 + 0.8 * place / len(names), f"deletion and insertion by {maps.RECIPES[name].title}")
        row.curves[name] = row.test.run(values)
    ordered = {name: values for name, values in row.drawn.items() if row.curves[name] is not None}
    if options.stages and card.gradients and ordered:
        row.changed = randomisation_test(row.job, row.subject, ordered, settings, options.stages, part(0.6, 1.0))
    if not card.gradients:
        job.warn(f"{card.name} is an ONNX file: occlusion alone, and its layers cannot be re-initialised")
    for name in names:
        row.verdicts[name] = judge(name, row.test, row.curves[name], row.changed.get(name, []))
    row.agreement = agreement_matrix(row.drawn, names)
    if told := told_of_score(row.test):
        job.warn(told)


def _drawn_so_far(row: Row) -> NDArray[np.uint8]:
    """The grid as it grows, each map by its own scale."""
    from fovea.engine.explain.maps.strips import TILE, map_tile, photo_tile, scale_of
    from fovea.engine.panels.sheet import Sheet

    tiles = [map_tile(row.job.frame, values, scale_of(values)) for values in row.drawn.values()]
    return Sheet(TILE, 4).compose([photo_tile(row.job.frame), *tiles])


def _warn(job: Job, rows: list[Row]) -> None:
    """One line for the maps without an order, and one for each that fails the test for which it is known."""
    flat = {name: None for row in rows for name, verdict in row.verdicts.items() if verdict.word == "no order"}
    if flat:
        titles = ", ".join(maps.RECIPES[name].title for name in flat)
        job.warn(f"constant: {titles}; a map without an order cannot be tested")
    for name, recipe in maps.RECIPES.items():
        found = [row.verdicts[name] for row in rows if name in row.verdicts and row.verdicts[name].warning]
        told = [one for one in found if recipe.known and one.word != "no order"]
        if told:
            job.warn(max(told, key=lambda one: one.kept).warning)


def _table(rows: list[Row]) -> pd.DataFrame:
    """The figures of every map, and of the orders that need no map, in one sortable table."""
    import numpy as np
    import pandas as pd

    from fovea.engine.explain.faithfulness.verdict import mean_rank, mean_ssim

    found: list[dict[str, Any]] = []
    for row in rows:
        assert row.test is not None, "measured before"
        assert row.agreement is not None, "measured before"
        for place, (name, curves) in enumerate(row.curves.items()):
            others = np.delete(row.agreement[place], place)
            found.append(
                {
                    "of": row.title,
                    "map": maps.RECIPES[name].title,
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
            found.append({"of": row.title, "map": title, "verdict": "", **figures})
    table = pd.DataFrame(found)
    figures_of = [name for name in table if table[name].dtype.kind == "f"]
    table[figures_of] = table[figures_of].round(3)
    return table if len(rows) > 1 else table.drop(columns="of")


def _named(row: Row, *words: str) -> str:
    return ", ".join(maps.RECIPES[name].title for name, verdict in row.verdicts.items() if verdict.word in words)


def _summary(rows: list[Row]) -> dict[str, Any]:
    first = rows[0]
    assert first.test is not None, "measured before"
    best = max(first.verdicts, key=lambda name: _rank(first.verdicts[name]))
    return {
        "target": first.subject.words,
        **({"beside": ", ".join(row.title for row in rows[1:])} if rows[1:] else {}),
        first.test.score: round(first.test.clean, 4),
        "hold up": _named(first, "holds up") or "none",
        "photo, not network": _named(first, "photo, not network") or "none",
        "largest gain": maps.RECIPES[best].title,
    }


def _rank(verdict: Verdict) -> float:
    return -float("inf") if verdict.gain != verdict.gain else verdict.gain


def _verdict_panel(row: Row, alone: bool) -> Panel:
    """Which maps hold up, in plain words."""
    told = (
        ("Hold up in both tests", "holds up"),
        ("To be read with care", "with care"),
        ("Find no more than a random order", "misses"),
        ("Show the photo more than the network, for they hardly change when it forgets", "photo, not network"),
        ("Constant", "no order"),
    )
    lines = [f"{words}: {_named(row, word)}." for words, word in told if _named(row, word)]
    title = "Which of these maps to trust" if alone else f"Which maps to trust: {row.title}"
    return TextPanel(title=title, help=" ".join(lines))


def _add_grids(result: Result, rows: list[Row]) -> None:
    """A grid for each row, and what tells the first class from the second."""
    from fovea.engine.explain.maps.strips import TILE, map_tile, photo_tile, scale_of
    from fovea.engine.panels.sheet import Sheet

    shared = [row for row in rows if row.job is rows[0].job]
    scales = {name: max(scale_of(row.drawn[name]) for row in shared) for name in rows[0].drawn}
    for place, row in enumerate(rows):
        own = scales if row.job is rows[0].job else {name: scale_of(values) for name, values in row.drawn.items()}
        tiles = [photo_tile(row.job.frame)]
        tiles += [map_tile(row.job.frame, values, own[name]) for name, values in row.drawn.items()]
        result.images[f"maps_{place}"] = Sheet(TILE, 4).compose(tiles)
        result.tables[f"maps_{place}"] = _captions(row)
        result.panels.append(_grid(f"maps_{place}", row.title, SCALE if place == 0 else ""))
    if len(shared) > 1:
        one, other = shared
        tiles = [photo_tile(one.job.frame)]
        tiles += [map_tile(one.job.frame, one.drawn[n] - other.drawn[n], scales[n]) for n in one.drawn]
        result.images["difference"] = Sheet(TILE, 4).compose(tiles)
        captions = _captions(one)[["map"]]
        captions["map"] = captions["map"].where(captions.index > 0, "photo")
        result.tables["difference"] = captions
        title = f"Why {one.title}, and not {other.title}"
        words = (
            f"The first map less the second, on their scale: amber tells more for {one.title}, blue for {other.title}."
        )
        panel = _grid("difference", title, words)
        result.panels.append(panel.model_copy(update={"caption": ("map",)}))


SCALE = (
    "One scale for all: amber speaks for the class, blue against; full strength is the 99.9th percentile of a map's "
    "values, shared by two classes of one network."
)


FIGURES = (
    "Deletion: the area under the score while pixels are taken away, the map's highest first; less is better. "
    "Insertion: the area while they are put back; more is better. Gain: insertion less deletion, to be held against "
    "the two rows in brackets, which need no map. Rank correlation and SSIM are with the map of a network whose "
    "layers are re-initialised from the top, on average while the first layer stands: near 1, the map shows the "
    "photo and not the network. "
    "Agreement: the mean rank correlation with the other maps."
)


def _captions(row: Row) -> pd.DataFrame:
    import pandas as pd

    assert row.test is not None, "measured before"
    lines = [("photo", f"{row.test.score} {row.test.clean:.3g}")]
    for name, curves in row.curves.items():
        figures = "" if curves is None else f" · gain {row.verdicts[name].gain:.2f}"
        lines.append((maps.RECIPES[name].title, f"{row.verdicts[name].word}{figures}"))
    return pd.DataFrame(lines, columns=["map", "told"])


def _grid(name: str, title: str, words: str) -> Panel:
    from fovea.engine.explain.maps.strips import TILE

    return GalleryPanel(
        title=title,
        help=words,
        image=name,
        table=name,
        tile=TILE,
        columns=4,
        caption=("map", "told"),
    )


def _add_agreement(result: Result, rows: list[Row]) -> None:
    import pandas as pd

    for place, row in enumerate(rows):
        assert row.agreement is not None, "measured before"
        titles = [maps.RECIPES[name].title for name in row.drawn]
        table = pd.DataFrame(row.agreement.round(2), columns=titles)
        table.insert(0, "map", titles)
        result.tables[f"agreement_{place}"] = table
        result.panels.append(
            TablePanel(
                title="Agreement" if len(rows) == 1 else f"Agreement: {row.title}",
                help="Rank correlation of where two maps point, on a 14 x 14 grid: 1 is the same order, 0 is chance.",
                table=f"agreement_{place}",
            )
        )


def work(card: Card, options: Any, images: int) -> float:
    """Forward passes of every row: its maps, the same again for each stage, their curves and the baselines'."""
    from fovea.engine.explain.trust import map_work

    names = maps.usable(card)
    drawn = sum(map_work(card, name, maps.RECIPES[name].lean(card)) for name in names)
    curves = 2 * (options.steps + 1) * (len(names) + options.random_orders + 1)
    rows = 1 + bool(options.second_class) + bool(options.second_network)
    return float(rows * (drawn * (1 + options.stages * card.gradients) + curves))


METHOD = Method(
    name="compare",
    title="Compare",
    verb="explain",
    family="Compare and trust",
    question="Which map of this photo can be trusted?",
    summary="All maps of a photo in one grid with the figures of trust, also of a second class or network.",
    options=CompareOptions,
    compute=run,
    work=work,
    check=check,
)
