"""What an ascent hands over: its pictures, what the network says of them, and how they compare with real photos."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from fovea.engine.look.mining.mined import BestPhoto, best_photo
from fovea.engine.make.excite.objectives import Objective
from fovea.engine.make.judge.verdict import SecondOpinion, activation_on, best_classes, probabilities_of
from fovea.engine.make.optimise.animation import Animation, in_a_row, side_by_side
from fovea.engine.make.optimise.canvas import contact_sheet, to_image, to_picture
from fovea.engine.make.optimise.loop import Made
from fovea.engine.method import Job, Result
from fovea.engine.panels import BarsPanel, CurvePanel, GalleryPanel, ImagePanel, Panel
from fovea.engine.panels.sheet import Sheet, fit_tile

if TYPE_CHECKING:
    from fovea.engine.make.excite.options import AscentOptions

MOST_LINES = 12
"""With more pictures than this their growth is not drawn, a line for each."""
FREE, BOX = "free, rescaled for display", "within real pixel values"
"""What the summary says of the range of a picture's values."""
RANGES = {
    True: "Its values may leave the range of real pixels, and are rescaled for display.",
    False: "Its values stay within the range of real pixels.",
}
"""The same as a sentence, by the option `free_range`."""


class AscentReport:
    """Tables, captions and panels of the finished `pixels`: one 8-bit picture for each preset and objective, presets
    first."""

    def __init__(
        self,
        job: Job[AscentOptions],
        pixels: Sequence[NDArray[np.uint8]],
        objectives: Sequence[Objective],
        presets: Sequence[str],
        made: Sequence[Made],
        animations: Sequence[Animation],
        second: SecondOpinion | None,
    ) -> None:
        self.job, self.pixels, self.made, self.animations, self.second = job, pixels, made, animations, second
        self.presets = presets
        self.objectives = [objective for _ in presets for objective in objectives]
        self.names = list(presets) if len(presets) > 1 else self._numbered(objectives)
        # Of presets side by side the last is the best; a joint stands between what it joins.
        self.main = len(presets) - 1 if len(presets) > 1 else 1 if job.options.joint else 0

    def _numbered(self, objectives: Sequence[Objective]) -> list[str]:
        names = [objective.name for objective in objectives]
        return [f"{name}, {i + 1}" for i, name in enumerate(names)] if len(set(names)) < len(names) else names

    @functools.cached_property
    def several(self) -> bool:
        """Whether there is more than one picture."""
        return len(self.pixels) > 1

    @functools.cached_property
    def activations(self) -> list[float]:
        """Each picture's own, measured on its 8-bit pixels."""
        pairs = zip(self.objectives, self.pixels, strict=True)
        return [activation_on(self.job, objective.loss, pixels) for objective, pixels in pairs]

    @functools.cached_property
    def mined(self) -> BestPhoto | None:
        """The photo of a finished mining run that excites the main picture's unit most; a class is the last layer's."""
        objective, card = self.objectives[self.main], self.job.card
        if objective.layer is not None and objective.unit is not None:
            return best_photo(self.job, objective.layer.name, objective.unit)
        if objective.target is not None and card.layers and card.layers[-1].units == len(card.classes):
            return best_photo(self.job, card.layers[-1].name, objective.target)
        return None

    def result(self) -> Result:
        """Everything that is saved."""
        job, losses = self.job, self._losses()
        tables = {"losses": losses, "activations": self._compared()}
        classes = best_classes(job, self.pixels[self.main])
        if classes is not None:
            tables["classes"] = classes
        images: dict[str, Any] = {"ascent": to_image(self.pixels[self.main]), "ascent.gif": self._animation()}
        if self.several:
            images["pictures"] = self._sheet()
            images |= {f"picture_{i + 1:02d}": to_image(frame) for i, frame in enumerate(self.pixels)}
            tables["pictures"] = self._table()
            if len(self.pixels) <= MOST_LINES:
                tables["grown"] = self._grown()
        if self.mined is not None:
            images["mined"] = to_image(self.mined.frame)
        return Result(
            arrays={"loss": losses["loss"].to_numpy()},
            tables=tables,
            images=images,
            summary=self._summary(classes),
            panels=self._panels(tables, images),
            preview="pictures" if self.several else "ascent",
        )

    def _losses(self) -> pd.DataFrame:
        if len(self.made) == 1:
            return self.made[0].losses
        named = zip(self.presets, self.made, strict=True)
        losses = pd.concat([made.losses.assign(preset=preset) for preset, made in named], ignore_index=True)
        losses["step"] = range(len(losses))
        return losses

    def _grown(self) -> pd.DataFrame:
        """The activation of each picture by step."""
        columns = [values for made in self.made for values in made.each["activation"].T]
        rows = range(max(len(values) for values in columns))
        return pd.DataFrame({"step": rows} | {n: pd.Series(v) for n, v in zip(self.names, columns, strict=True)})

    def _sheet(self) -> NDArray[np.uint8]:
        return Sheet(self._tile, self._columns).compose(
            fit_tile(_enlarged(frame, self._tile), self._tile) for frame in self.pixels
        )

    @property
    def _tile(self) -> int:
        return max(256, max(self.pixels[0].shape[:2])) if len(self.pixels) <= 16 else 192

    @property
    def _columns(self) -> int:
        count = len(self.pixels)
        return count if count <= 4 else math.ceil(math.sqrt(count))

    def _animation(self) -> bytes:
        if len(self.animations) == 1:
            return self.animations[0].gif(contact_sheet(to_picture(np.stack(self.pixels))))
        row = in_a_row(
            [
                animation.small(Image.fromarray(_rgb(frame)))
                for animation, frame in zip(self.animations, self.pixels, strict=True)
            ]
        )
        return side_by_side(self.animations).gif(np.asarray(row))

    def _table(self) -> pd.DataFrame:
        """A row for each picture: what it excites, how much, and what the networks call it."""
        table = pd.DataFrame({"picture": self.names, "activation": self.activations})
        card = self.job.card
        if card.has_classes:
            seen = [probabilities_of(self.job, frame) for frame in self.pixels]
            table["sees"] = [_top_class(card.classes, probabilities) for probabilities in seen]
            if self.objectives[0].target is not None:
                pairs = zip(self.objectives, seen, strict=True)
                table["probability"] = [np.nan if o.target is None else float(seen[o.target]) for o, seen in pairs]
        if self.second is not None:
            seen = [self.second.probabilities(frame) for frame in self.pixels]
            other = self.second.network.card
            table["second_sees"] = [
                f"{other.name}: {_top_class(other.classes, probabilities)}" for probabilities in seen
            ]
        return table

    def _compared(self) -> pd.DataFrame:
        """The activation on the picture that was made, on the photo and on the best photo of a mining run."""
        job, objective = self.job, self.objectives[self.main]
        rows = [("made", self.activations[self.main])]
        if self.mined is not None:
            rows.append((f"best of {self.mined.dataset}", activation_on(job, objective.loss, self.mined.frame)))
        if job.photo is not None:
            rows.append(("the photo", activation_on(job, objective.loss, job.frame)))
        return pd.DataFrame(rows, columns=["picture", "activation"])

    def _summary(self, classes: pd.DataFrame | None) -> dict[str, Any]:
        job, objective, pixels = self.job, self.objectives[self.main], self.pixels[self.main]
        activation = self.activations[self.main]
        summary: dict[str, Any] = {**objective.about, "activation": activation}
        if self.several:
            summary = {"pictures": len(self.pixels), **summary}
        begun = [value for part in self.made for value in part.each["activation"][0]][self.main]
        if not activation > float(begun):
            job.warn(
                f"the activation of {objective.name} did not grow: it ends at {activation:.3g}; another start or more "
                "steps may help"
            )
        if job.photo is not None:
            summary["activation_on_photo"] = activation_on(job, objective.loss, job.frame)
        if self.mined is not None:
            summary["activation_on_best_patch"] = activation_on(job, objective.loss, self.mined.frame)
        if classes is not None:
            summary["top_class"] = str(classes["class"][0])
            summary["top_probability"] = float(classes["probability"][0])
            if objective.target is not None:
                summary["probability"] = float(probabilities_of(job, pixels)[objective.target])
        return summary | self._second_summary() | self._range_summary()

    def _second_summary(self) -> dict[str, Any]:
        """What the other network says of the main picture, and, where it is there, of that without regulariser."""
        if self.second is None:
            return {}
        objective, card = self.objectives[self.main], self.second.network.card
        seen = self.second.probabilities(self.pixels[self.main])
        summary: dict[str, Any] = {"second_network": card.name, "second_top_class": card.classes[int(seen.argmax())]}
        like = None if objective.target is None else self.second.class_like(self.job.card, objective.target)
        if like is not None:
            summary["second_probability"] = float(seen[like])
            if "none" in self.presets and len(self.presets) > 1:
                plain = self.second.probabilities(self.pixels[self.presets.index("none")])
                summary["second_probability_without_regulariser"] = float(plain[like])
        return summary

    def _second_words(self) -> str:
        """What the other network says, as a sentence; nothing without one."""
        summary = self._second_summary()
        if not summary:
            return ""
        if "second_probability" not in summary:
            return f" {summary['second_network']} sees {summary['second_top_class']} in it."
        words = f" {summary['second_network']} gives this class {_percent(summary['second_probability'])} here"
        plain = summary.get("second_probability_without_regulariser")
        return f"{words}, and {_percent(plain)} without a regulariser." if plain is not None else f"{words}."

    def _range_summary(self) -> dict[str, Any]:
        made = self.made[-1]
        if not self.job.options.free_range:
            return {"range": BOX}
        self.job.warn(
            "the picture left the range of real pixels and was rescaled for display: all figures are those of the "
            "rescaled picture; before it was rescaled, the activation was "
            f"{made.each['activation'][-1, self.main % made.picture.shape[0]]:.4g}"
        )
        return {"range": FREE, "lowest": float(made.picture.min()), "highest": float(made.picture.max())}

    def _panels(self, tables: dict[str, pd.DataFrame], images: dict[str, Any]) -> list[Panel]:
        return [*self._picture_panels(tables), *self._figure_panels(tables, images)]

    def _picture_panels(self, tables: dict[str, pd.DataFrame]) -> list[Panel]:
        how = RANGES[self.job.options.free_range]
        grew = ImagePanel(
            title="As it grew", help="The picture from its start to its end.", image="ascent.gif", beside=True
        )
        if not self.several:
            name = self.objectives[0].name
            told = (
                "The picture was made by following the gradient up, from a start that shows nothing of it. "
                f"{how}{self._second_words()}"
            )
            return [ImagePanel(title=f"What excites {name}", help=told, image="ascent"), grew]
        caption = tuple(column for column in tables["pictures"].columns if column != "probability")
        return [
            GalleryPanel(
                title=self._title(),
                help="Each picture is captioned with its activation and with what the network sees in it. "
                f"{how}{self._second_words()}",
                image="pictures",
                table="pictures",
                tile=self._tile,
                columns=self._columns,
                caption=caption,
            ),
            grew.model_copy(
                update={"beside": False, "title": "As they grew", "help": "The pictures from their start to their end."}
            ),
        ]

    def _title(self) -> str:
        name = self.objectives[0].name
        if len(self.presets) > 1:
            return f"What regularisers do: {name}"
        if self.job.options.joint:
            return "The first, both at once, and the second"
        if self.job.options.diversity > 1:
            return f"Sides of {name}"
        return f"What excites each of {len(self.pixels)} units or classes"

    def _figure_panels(self, tables: dict[str, pd.DataFrame], images: dict[str, Any]) -> list[Panel]:
        curve = self._curve(tables)
        panels: list[Panel] = []
        if len(tables["activations"]) > 1:
            panels.append(
                BarsPanel(
                    title="How strongly it fires",
                    help=f"The activation of {self.objectives[self.main].name} on what was made and on real pictures.",
                    table="activations",
                    x="picture",
                    y=("activation",),
                )
            )
        if "classes" in tables:
            panels.append(
                BarsPanel(
                    title="What the network says of this picture"
                    + (f" ({self.names[self.main]})" if self.several else ""),
                    help="The five most probable classes of the picture as it is saved, in 8 bits.",
                    table="classes",
                    x="class",
                    y=("probability",),
                )
            )
        if "mined" in images and self.mined is not None:
            told = f"A finished run that mined {self.mined.dataset} found it there: {self.mined.image}."
            panels.append(ImagePanel(title="The photo that excites it most", help=told, image="mined"))
        return [*panels, curve]

    def _curve(self, tables: dict[str, pd.DataFrame]) -> Panel:
        if "grown" in tables:
            return CurvePanel(
                title="How each grew",
                help="The activation of each picture as it was before each step.",
                table="grown",
                x="step",
                y=tuple(self.names),
            )
        terms = tuple(name for name in tables["losses"].columns if name not in ("step", "loss", "preset"))
        return CurvePanel(
            title="How it grew",
            help="The activation is raised and the other terms are held down; each is drawn without its weight.",
            table="losses",
            x="step",
            y=terms,
        )


def _rgb(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.repeat(pixels, 3, axis=-1) if pixels.shape[-1] == 1 else pixels[..., :3]


def _enlarged(pixels: NDArray[np.uint8], tile: int) -> Image.Image:
    picture = Image.fromarray(_rgb(pixels))
    scale = tile / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.BICUBIC)


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _top_class(classes: Sequence[str], probabilities: NDArray[np.float32]) -> str:
    best = int(probabilities.argmax())
    name = classes[best] if best < len(classes) else str(best)
    return f"{name} {probabilities[best]:.0%}"
