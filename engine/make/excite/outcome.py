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
from fovea.engine.make.excite.subjects import Subject
from fovea.engine.make.judge.verdict import SecondOpinion, activation_on, best_classes, probabilities_of
from fovea.engine.make.optimise.canvas import to_image, to_pixels
from fovea.engine.make.optimise.film import Film, in_a_row, side_by_side
from fovea.engine.make.optimise.loop import Made
from fovea.engine.method import Job, Result
from fovea.engine.panels import BarsPanel, CurvePanel, GalleryPanel, ImagePanel, Panel
from fovea.engine.panels.sheet import Sheet, fit_tile

if TYPE_CHECKING:
    from torch import Tensor

MOST_LINES = 12
"""Pictures whose growth is drawn as a line of its own."""
FREE = "free, rescaled for display"
BOX = "within real pixel values"


def second_opinion(job: Job) -> SecondOpinion | None:
    """The other network that the options name. Raises UnsupportedError if it has no classes."""
    if not job.options.second_network:
        return None
    from fovea.models.zoo import load

    return SecondOpinion(load(job.options.second_network), job.device)


def rescaled(pictures: Tensor) -> Tensor:
    """Each free picture (N, C, H, W) brought linearly into [0, 1] for display."""
    low, high = pictures.amin((1, 2, 3), keepdim=True), pictures.amax((1, 2, 3), keepdim=True)
    return (pictures - low) / (high - low).clamp_min(1e-12)


class Outcome:
    """The finished pictures: one for each preset and subject, presets first."""

    def __init__(
        self,
        job: Job,
        subjects: Sequence[Subject],
        presets: Sequence[str],
        made: Sequence[Made],
        films: Sequence[Film],
        second: SecondOpinion | None,
    ) -> None:
        self.job, self.made, self.films, self.second = job, made, films, second
        self.presets = presets
        free = job.options.free_range
        self.pixels = [one for part in made for one in to_pixels(rescaled(part.picture) if free else part.picture)]
        self.subjects = [subject for _ in presets for subject in subjects]
        self.names = list(presets) if len(presets) > 1 else self._numbered(subjects)
        # Of presets side by side the last is the best; a joint stands between what it joins.
        self.main = len(presets) - 1 if len(presets) > 1 else 1 if job.options.joint else 0

    def _numbered(self, subjects: Sequence[Subject]) -> list[str]:
        names = [subject.name for subject in subjects]
        return [f"{name}, {i + 1}" for i, name in enumerate(names)] if len(set(names)) < len(names) else names

    @functools.cached_property
    def several(self) -> bool:
        """Whether there is more than one picture."""
        return len(self.pixels) > 1

    @functools.cached_property
    def activations(self) -> list[float]:
        """Each picture's own, measured on its 8-bit pixels."""
        pairs = zip(self.subjects, self.pixels, strict=True)
        return [activation_on(self.job, subject.loss, pixels) for subject, pixels in pairs]

    @functools.cached_property
    def mined(self) -> BestPhoto | None:
        """The photo of a finished mining run that excites the main picture's unit most; a class is the last layer's."""
        subject, card = self.subjects[self.main], self.job.card
        if subject.layer is not None and subject.unit is not None:
            return best_photo(self.job, subject.layer.name, subject.unit)
        if subject.target is not None and card.layers[-1].units == len(card.classes):
            return best_photo(self.job, card.layers[-1].name, subject.target)
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
            images |= {f"picture_{i + 1:02d}": to_image(one) for i, one in enumerate(self.pixels)}
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
            fit_tile(_enlarged(picture, self._tile), self._tile) for picture in self.pixels
        )

    @property
    def _tile(self) -> int:
        return max(256, max(self.pixels[0].shape[:2])) if len(self.pixels) <= 16 else 192

    @property
    def _columns(self) -> int:
        count = len(self.pixels)
        return count if count <= 4 else math.ceil(math.sqrt(count))

    def _animation(self) -> bytes:
        if len(self.films) == 1:
            from fovea.engine.make.optimise.canvas import contact_sheet, to_picture

            return self.films[0].gif(contact_sheet(to_picture(np.stack(self.pixels))))
        row = in_a_row(
            [film.small(Image.fromarray(_rgb(one))) for film, one in zip(self.films, self.pixels, strict=True)]
        )
        return side_by_side(self.films).gif(np.asarray(row))

    def _table(self) -> pd.DataFrame:
        """A row for each picture: what it excites, how much, and what the networks call it."""
        table = pd.DataFrame({"picture": self.names, "activation": self.activations})
        card = self.job.card
        if card.classes and card.output != "features":
            seen = [probabilities_of(self.job, one) for one in self.pixels]
            table["sees"] = [_said(card.classes, one) for one in seen]
            if self.subjects[0].target is not None:
                pairs = zip(self.subjects, seen, strict=True)
                table["probability"] = [float(one[s.target]) if s.target is not None else np.nan for s, one in pairs]
        if self.second is not None:
            seen = [self.second.probabilities(one) for one in self.pixels]
            other = self.second.network.card
            table["second_sees"] = [f"{other.name}: {_said(other.classes, one)}" for one in seen]
        return table

    def _compared(self) -> pd.DataFrame:
        """The activation on the picture that was made, on the photo and on the best photo of a mining run."""
        job, subject = self.job, self.subjects[self.main]
        rows = [("made", self.activations[self.main])]
        if self.mined is not None:
            rows.append((f"best of {self.mined.dataset}", activation_on(job, subject.loss, self.mined.frame)))
        if job.photo is not None:
            rows.append(("the photo", activation_on(job, subject.loss, job.frame)))
        return pd.DataFrame(rows, columns=["picture", "activation"])

    def _summary(self, classes: pd.DataFrame | None) -> dict[str, Any]:
        job, subject, pixels = self.job, self.subjects[self.main], self.pixels[self.main]
        activation = self.activations[self.main]
        summary: dict[str, Any] = {**subject.about, "activation": activation}
        if self.several:
            summary = {"pictures": len(self.pixels), **summary}
        begun = [value for part in self.made for value in part.each["activation"][0]][self.main]
        if not activation > float(begun):
            job.warn(
                f"{subject.name} did not grow: it ends at {activation:.3g}; another start, or more steps, may help"
            )
        if job.photo is not None:
            summary["activation_on_photo"] = activation_on(job, subject.loss, job.frame)
        if self.mined is not None:
            summary["activation_on_best_patch"] = activation_on(job, subject.loss, self.mined.frame)
        if classes is not None:
            summary["top_class"] = str(classes["class"][0])
            summary["top_probability"] = float(classes["probability"][0])
            if subject.target is not None:
                summary["probability"] = float(probabilities_of(job, pixels)[subject.target])
        return summary | self._second_summary() | self._range_summary()

    def _second_summary(self) -> dict[str, Any]:
        """What the other network says of the main picture, and, where it is there, of that without regulariser."""
        if self.second is None:
            return {}
        subject, card = self.subjects[self.main], self.second.network.card
        seen = self.second.probabilities(self.pixels[self.main])
        found: dict[str, Any] = {"second_network": card.name, "second_top_class": card.classes[int(seen.argmax())]}
        like = None if subject.target is None else self.second.class_like(self.job.card, subject.target)
        if like is not None:
            found["second_probability"] = float(seen[like])
            if "none" in self.presets and len(self.presets) > 1:
                plain = self.second.probabilities(self.pixels[self.presets.index("none")])
                found["second_probability_without_regulariser"] = float(plain[like])
        return found

    def _second_words(self) -> str:
        """What the other network says, as a sentence; nothing without one."""
        found = self._second_summary()
        if not found:
            return ""
        if "second_probability" not in found:
            return f" {found['second_network']} sees {found['second_top_class']} in it."
        words = f" {found['second_network']} gives this class {_percent(found['second_probability'])} here"
        plain = found.get("second_probability_without_regulariser")
        return f"{words}, and {_percent(plain)} without a regulariser." if plain is not None else f"{words}."

    def _range_summary(self) -> dict[str, Any]:
        made = self.made[-1]
        if not self.job.options.free_range:
            return {"range": BOX}
        self.job.warn(
            "the picture left the range of real pixels and was rescaled for display: the figures are those of the "
            "rescaled picture; before, the activation was "
            f"{made.each['activation'][-1, self.main % made.picture.shape[0]]:.4g}"
        )
        return {"range": FREE, "lowest": float(made.picture.min()), "highest": float(made.picture.max())}

    def _panels(self, tables: dict[str, pd.DataFrame], images: dict[str, Any]) -> list[Panel]:
        return [*self._picture_panels(tables), *self._figure_panels(tables, images)]

    def _picture_panels(self, tables: dict[str, pd.DataFrame]) -> list[Panel]:
        how = FREE if self.job.options.free_range else BOX
        grew = ImagePanel(title="As it grew", help="From the start to the end.", image="ascent.gif", beside=True)
        if not self.several:
            name = self.subjects[0].name
            told = (
                f"Made by following the gradient up from a start that shows nothing of it; {how}.{self._second_words()}"
            )
            return [ImagePanel(title=f"What excites {name}", help=told, image="ascent"), grew]
        caption = tuple(column for column in tables["pictures"].columns if column != "probability")
        return [
            GalleryPanel(
                title=self._title(),
                help=f"Each with its activation and what the network calls it; {how}.{self._second_words()}",
                image="pictures",
                table="pictures",
                tile=self._tile,
                columns=self._columns,
                caption=caption,
            ),
            grew.model_copy(update={"beside": False, "title": "As they grew"}),
        ]

    def _title(self) -> str:
        name = self.subjects[0].name
        if len(self.presets) > 1:
            return f"What regularisers do: {name}"
        if self.job.options.joint:
            return "One, both at once, the other"
        if self.job.options.diversity > 1:
            return f"Sides of {name}"
        return f"What excites each of {len(self.pixels)}"

    def _figure_panels(self, tables: dict[str, pd.DataFrame], images: dict[str, Any]) -> list[Panel]:
        curve = self._curve(tables)
        panels: list[Panel] = []
        if len(tables["activations"]) > 1:
            panels.append(
                BarsPanel(
                    title="How strongly it fires",
                    help=f"On what was made and on real pictures: {self.subjects[self.main].name}.",
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
                    help="The five best classes of the saved 8-bit picture.",
                    table="classes",
                    x="class",
                    y=("probability",),
                )
            )
        if "mined" in images and self.mined is not None:
            told = f"Of {self.mined.dataset}, as a finished run of mining found it: {self.mined.image}."
            panels.append(ImagePanel(title="The photo that excites it most", help=told, image="mined"))
        return [*panels, curve]

    def _curve(self, tables: dict[str, pd.DataFrame]) -> Panel:
        if "grown" in tables:
            return CurvePanel(
                title="How each grew",
                help="The activation of each picture, before the next step.",
                table="grown",
                x="step",
                y=tuple(self.names),
            )
        terms = tuple(name for name in tables["losses"].columns if name not in ("step", "loss", "preset"))
        return CurvePanel(
            title="How it grew",
            help="The activation is raised, the other terms are held down; each is shown before its weight.",
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


def _said(classes: Sequence[str], probabilities: NDArray[np.float32]) -> str:
    best = int(probabilities.argmax())
    name = classes[best] if best < len(classes) else str(best)
    return f"{name} {probabilities[best]:.0%}"
