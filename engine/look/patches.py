"""Maximally activating patches: the places of a data set that excite each unit most.

Zeiler and Fergus (2014), section 4, and Girshick et al., "Rich feature hierarchies" (2014), section 3.1: for
every unit the images with the largest spatial maximum, cropped to the receptive field at its position. One pass
over the data serves all layers; the maxima are taken inside the graph. One patch an image, so that nine patches
are nine images.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fovea.engine.errors import DatasetError, UnsupportedError
from fovea.engine.look.mining.merge import (
    HISTOGRAM_BINS,
    SCALE,
    LayerPart,
    Partial,
    from_bytes,
    histogram_edges,
    layer_part,
    merge,
    to_bytes,
)
from fovea.engine.look.probing.layers import last_of_each_resolution, with_units
from fovea.engine.method import Job, Method, Needs, Result
from fovea.engine.options import DatasetKind, LayersKind, Options, option
from fovea.engine.panels import GalleryPanel, TablePanel
from fovea.models.home import write_whole

if TYPE_CHECKING:
    import pandas as pd

    from fovea.engine.data.dataset import Dataset
    from fovea.engine.look.probing.probe import Probe
    from fovea.models.card import Card, Layer

SHARD = 256
"""Images a shard: after each its part is kept, so that a killed run loses little more than this."""
LOOSE = 16
"""So many shards' parts lie in files of their own before they are put together in one."""
TILES = (64, 48, 32, 24)
SHEET_PIXELS = 45_000_000
"""A sheet of crops is kept below this, by smaller tiles and then by fewer of them: browsers decode it whole."""
KEPT_BYTES = 160 * 2**20
"""Decoded frames are kept up to this much, so that a small data set is decoded once and not again for the crops."""
PROCESS_BYTES, KEY_BYTES, SHEET_BYTES = 450_000_000, 300, 0.45
"""As measured: a process that has loaded all it needs, an image's key with its places in tables, a sheet's pixel."""
LABEL_SUMS = 20_000_000
"""Sums by label are kept up to this many units times labels."""
BACKGROUND = 128


class PatchesOptions(Options):
    """Which units are looked at, on which images, and how many patches are kept."""

    dataset: str = option("sample", "the data set that is mined, a name or a folder", kind=DatasetKind(), min_length=1)
    layers: str = option("", "layers, with commas (default: the last layer of each resolution)", kind=LayersKind())
    top: int = option(9, "patches kept for each unit", ge=1, le=100)
    rank: Literal["maximum", "mean"] = option(
        "maximum", "what images are ranked by: the unit's spatial maximum, or the mean of its map"
    )
    batch: int = option(0, "images run at a time (0: chosen by provider)", ge=0, le=1024, advanced=True)
    threads: int = option(0, "threads that decode ahead of the network (0: one a core)", ge=0, le=64, advanced=True)


def chosen_layers(card: Card, layers: str) -> list[Layer]:
    """The layers of a comma list; without one, the last layer of each of the deepest resolutions.

    Raises UnknownNameError, or UnsupportedError if one has no units.
    """
    names = list(dict.fromkeys(part.strip() for part in layers.split(",") if part.strip()))
    found = [with_units(card, name) for name in names] or last_of_each_resolution(card)
    if not found:
        raise UnsupportedError(
            f"{card.name} has no layer whose units are maps: name layers, e.g. {card.layers[-1].name}"
        )
    return found


def check(card: Card, options: Any) -> None:
    """Raises UnknownNameError or UnsupportedError if a layer cannot be mined."""
    chosen_layers(card, options.layers)


def run(job: Job) -> Result:
    """Mine the data set. Tables `patches`, `units`, `gallery`, `unreadable`; a sheet of crops for each layer.

    `patches`: layer, unit, rank (from 0), score (what images are ranked by), image (its key), y, x (the maximum's
    position in the layer's map), box_x0, box_y0, box_x1, box_y1 (its receptive field in the network's input,
    exclusive ends, clipped).
    Every unit has min(top, images) rows, dead ones too; an image whose map is all NaN for a unit has none.
    """
    miner = Miner(job)
    found = miner.mine()
    if not found.images:
        raise DatasetError(f"the data set {miner.dataset.name} has no readable image: {len(miner.dataset)} were tried")
    patches = _patches_table(miner, found)
    units = _units_table(miner, found)
    result = Result(
        arrays={
            "histograms": np.concatenate([part.histogram for part in found.layers.values()]).astype(np.int32),
            "histogram_edges": histogram_edges(),
        },
        tables={"patches": patches, "units": units, "unreadable": _unreadable_table(miner, found)},
        summary=_summary(miner, found, units),
    )
    _add_galleries(job, miner, result)
    _add_panels(miner, found, result)
    return result


class Maxima(NamedTuple):
    """What some images say of a layer: every unit's `scores` (n, C), the maxima of its maps; their `places` (n, C) in
    the flattened map; and the `means` (n, C) of its maps."""

    scores: NDArray[np.float32]
    places: NDArray[np.int64]
    means: NDArray[np.float32]


class Miner:
    """One request's way through a data set, shard by shard.

    A shard is a run of consecutive images; `mine_shard` is all that another engine needs to drive.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.options: Any = job.options
        self.dataset: Dataset = job.dataset(self.options.dataset)
        self.layers = chosen_layers(job.card, self.options.layers)
        self.ranks = np.empty(len(self.dataset), np.int64)
        self.ranks[np.argsort(np.array(self.dataset.keys, dtype=object), kind="stable")] = np.arange(len(self.dataset))
        self.by_rank = np.argsort(self.ranks)
        self.label_names, self.labels = self._read_labels()
        self._probe: Probe | None = None
        self._whole_maps: Probe | None = None
        self._kept: dict[int, NDArray[np.uint8]] = {}

    def _read_labels(self) -> tuple[list[str], NDArray[np.int64] | None]:
        names = self.dataset.classes
        if not names:
            return [], None
        units = sum(layer.units for layer in self.layers)
        if units * len(names) > LABEL_SUMS:
            self.job.warn(f"labels that excite a unit most are left out: {units} units times {len(names)} labels")
            return [], None
        index = {name: position for position, name in enumerate(names)}
        return names, np.array([index.get(label, -1) for label in self.dataset.labels or []], np.int64)

    @property
    def shards(self) -> int:
        """How many shards the data set has."""
        return -(-len(self.dataset) // SHARD)

    @property
    def probe(self) -> Probe:
        """The session that answers with maxima and their positions; opened on first use."""
        if self._probe is None:
            from fovea.engine.look.probing import reducers
            from fovea.engine.look.probing.probe import Probe, lanes_for_cores

            def build(editor: reducers.Editor, tensors: Mapping[str, str]) -> None:
                reducers.normalised_input(editor, self.job.card.preprocessing)
                for index, layer in enumerate(self.layers):
                    maps = reducers.as_maps(editor, tensors[layer.name], layer)
                    maximum = reducers.spatial_maximum(editor, maps, layer)
                    editor.answer(maximum.score, f"score.{index}")
                    editor.answer(maximum.row, f"row.{index}", "int64")
                    editor.answer(maximum.column, f"column.{index}", "int64")
                    editor.answer(reducers.spatial_mean(editor, maps), f"mean.{index}")

            self._probe = Probe(self.job, [layer.name for layer in self.layers], build, lanes=lanes_for_cores())
            self.job.record(decoder=self.dataset.decoder)
        return self._probe

    def mine(self) -> Partial:
        """All shards, going on from the last checkpoint; the result does not depend on where it was stopped."""
        done = self._read_checkpoint()
        left = [shard for shard in range(self.shards) if done is None or shard not in done.shards]
        for part in self.mine_shards(left):
            done = part if done is None else merge([done, part])
            self._write_checkpoint(part, done)
            self._forget_frames(done)
        if done is None:
            raise DatasetError(f"the data set {self.dataset.name} has no images")
        return done

    def mine_shard(self, shard: int) -> Partial:
        """The partial result of one shard."""
        return next(self.mine_shards([shard]))

    def mine_shards(self, shards: Sequence[int]) -> Iterator[Partial]:
        """The partial result of each shard, in order; the network goes on to the next while one is put together."""
        if not shards:
            return
        count = len(self.dataset)
        batches = (((shard, batch, frames), {"pixels": frames}) for shard, batch, frames in self._batches(shards))
        left = deque(shards)
        done = count - sum(len(self._indices(shard)) for shard in shards)
        read: list[int] = []
        answers: list[list[Maxima]] = []
        for (shard, batch, frames), answer in self.probe.stream(batches, batched=("pixels",)):
            while left[0] != shard:
                yield self._part(left.popleft(), read, answers)
                read, answers = [], []
            answers.append(self._maxima(answer, frames))
            read += batch
            done += len(batch)
            self.job.progress(0.98 * done / count, f"image {done} of {count}")
        for shard in left:
            yield self._part(shard, read, answers)
            read, answers = [], []

    def _indices(self, shard: int) -> range:
        return range(shard * SHARD, min((shard + 1) * SHARD, len(self.dataset)))

    def _part(self, shard: int, read: list[int], answers: list[list[Maxima]]) -> Partial:
        """One shard's answers, put together."""
        ranks = self.ranks[read]
        labels = None if self.labels is None else self.labels[read]
        names = self.label_names
        missing = list(set(self._indices(shard)) - set(read))
        layers = {}
        for index, layer in enumerate(self.layers):
            maxima, places, means = self._joined(answers, index)
            scores = means if self.options.rank == "mean" else maxima
            layers[layer.name] = layer_part(scores, places, ranks, labels, len(names), self.options.top, maxima)
        return Partial(
            shards=(shard,),
            layers=layers,
            images=len(read),
            labels=_counts(labels, len(names)),
            unreadable=tuple(sorted(int(rank) for rank in self.ranks[missing])),
        )

    def _batches(self, shards: Sequence[int]) -> Iterator[tuple[int, list[int], NDArray[np.uint8]]]:
        """(shard, indices, frames): the readable images in order. No batch has images of two shards."""
        from fovea.engine.look.probing.probe import batch_size

        size = self.options.batch or batch_size(self.probe.provider, self.probe.lanes)
        batch: list[int] = []
        frames: list[NDArray[np.uint8]] = []
        indices = itertools.chain.from_iterable(self._indices(shard) for shard in shards)
        for index, frame in self._frames(indices):
            if batch and (len(batch) == size or index // SHARD != batch[0] // SHARD):
                yield batch[0] // SHARD, batch, np.stack(frames)
                batch, frames = [], []
            if (len(self._kept) + 1) * frame.nbytes <= KEPT_BYTES:
                self._kept[index] = frame
            batch.append(index)
            frames.append(frame)
        if batch:
            yield batch[0] // SHARD, batch, np.stack(frames)

    def _frames(self, indices: Iterable[int]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        from fovea.engine.look.probing.probe import cores

        threads = self.options.threads or cores()
        yield from self.dataset.frames(self.job.card.preprocessing, indices, threads=threads, unreadable=[])

    def _forget_frames(self, done: Partial) -> None:
        """Keep the frames of images that are in some unit's list, and of shards that are not in `done` yet."""
        best = np.unique(np.concatenate([part.images.ravel() for part in done.layers.values()]))
        wanted = set(self.by_rank[best[best >= 0]].tolist())
        over = set(done.shards)
        self._kept = {i: frame for i, frame in self._kept.items() if i in wanted or i // SHARD not in over}

    def frames_again(self, indices: Sequence[int]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Frames of images that were mined: those still in memory first, the others decoded once more."""
        yield from ((index, self._kept[index]) for index in indices if index in self._kept)
        yield from self._frames(index for index in indices if index not in self._kept)

    def _maxima(self, answers: Mapping[str, NDArray[Any]], frames: NDArray[np.uint8]) -> list[Maxima]:
        """What a batch says of every layer."""
        found = []
        for index, layer in enumerate(self.layers):
            scores, means = np.array(answers[f"score.{index}"]), np.array(answers[f"mean.{index}"])
            places = answers[f"row.{index}"] * layer.grid[1] + answers[f"column.{index}"]
            # A NaN anywhere in a map makes its mean NaN; what a maximum does with it differs between providers.
            for n in np.nonzero(np.isnan(means).any(axis=1))[0]:
                scores[n], places[n], means[n] = self._without_nan(frames[n : n + 1], index)
            found.append(Maxima(scores, places, means))
        return found

    def _without_nan(self, frame: NDArray[np.uint8], index: int) -> Maxima:
        """Of one image (C,) with what is NaN dropped; NaN for a unit that has nothing else."""
        if self._whole_maps is None:
            from fovea.engine.look.probing import reducers
            from fovea.engine.look.probing.probe import Probe

            def build(editor: reducers.Editor, tensors: Mapping[str, str]) -> None:
                reducers.normalised_input(editor, self.job.card.preprocessing)
                for place, layer in enumerate(self.layers):
                    editor.answer(reducers.as_maps(editor, tensors[layer.name], layer), f"maps.{place}")

            self._whole_maps = Probe(self.job, [layer.name for layer in self.layers], build)
        maps = self._whole_maps.run({"pixels": frame}, batched=("pixels",))[f"maps.{index}"][0]
        flat = maps.reshape(len(maps), -1)
        missing = np.isnan(flat)
        places = np.where(missing, -np.inf, flat).argmax(axis=1)
        # Where the rest is -inf, argmax may have stopped at a NaN: take the first value that is one.
        places = np.where(np.take_along_axis(missing, places[:, None], 1)[:, 0], (~missing).argmax(axis=1), places)
        with np.errstate(invalid="ignore"):  # infinities of both signs have no mean
            means = np.where(missing, 0, flat).sum(axis=1) / (~missing).sum(axis=1)
        return Maxima(np.take_along_axis(flat, places[:, None], 1)[:, 0], places, means.astype(np.float32))

    def _joined(self, answers: list[list[Maxima]], index: int) -> Maxima:
        if not answers:
            nothing = np.empty((0, self.layers[index].units), np.float32)
            return Maxima(nothing, nothing.astype(np.int64), nothing)
        return Maxima(*(np.concatenate(parts) for parts in zip(*(answer[index] for answer in answers), strict=True)))

    # --- checkpoints

    def _signature(self) -> str:
        """What a checkpoint must have been made of to be of use here."""
        facts = [
            METHOD.version,
            self.job.card.sha256,
            self.job.card.preprocessing.model_dump(mode="json"),
            self.dataset.manifest_sha256(),
            [layer.name for layer in self.layers],
            self.options.top,
            self.options.rank,
            self.options.batch,
            self.job.provider,
            SHARD,
        ]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def _read_checkpoint(self) -> Partial | None:
        """What earlier tries of this request have left, put together; a damaged file is as good as none."""
        if self.job.checkpoints is None:
            return None
        files = sorted(self.job.checkpoints.glob("shard*.npz"))
        parts = [from_bytes(file.read_bytes(), self._signature()) for file in files]
        return merge(found) if (found := [part for part in parts if part is not None]) else None

    def _write_checkpoint(self, part: Partial, done: Partial) -> None:
        """Keep a shard's part in a file of its own, written whole; now and then all that is `done` in one.

        A shard that is in both, because the process was killed in between, counts once.
        """
        folder = self.job.checkpoints
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / f"shard-{part.shards[0]:08d}.npz", to_bytes(part, self._signature()))
        if len(done.shards) % LOOSE == 0:
            loose = list(folder.glob("shard-*.npz"))
            write_whole(folder / "shards.npz", to_bytes(done, self._signature()))
            for file in loose:
                file.unlink()


def _counts(labels: NDArray[np.int64] | None, count: int) -> NDArray[np.int64]:
    """How many images have each label; -1 is none."""
    known = labels[labels >= 0] if labels is not None else np.empty(0, np.int64)
    return np.bincount(known, minlength=count).astype(np.int64)


# --- tables


def _patches_table(miner: Miner, found: Partial) -> pd.DataFrame:
    import pandas as pd

    keys = np.array(miner.dataset.keys, dtype=object)
    frame = miner.job.card.preprocessing.size
    tables = []
    for layer in miner.layers:
        part = found.layers[layer.name]
        unit, rank = np.nonzero(part.images >= 0)
        rows, columns = np.divmod(part.places[unit, rank], layer.grid[1])
        tables.append(
            pd.DataFrame(
                {
                    "layer": layer.name,
                    "unit": unit,
                    "rank": rank,
                    "score": part.scores[unit, rank],
                    "image": keys[miner.by_rank[part.images[unit, rank]]],
                    "y": rows,
                    "x": columns,
                    **_boxes(layer, rows, columns, frame),
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


def _boxes(
    layer: Layer, rows: NDArray[np.int64], columns: NDArray[np.int64], frame: tuple[int, int]
) -> dict[str, NDArray[np.int64]]:
    """The receptive fields of the positions, clipped to the frame and at least one pixel large."""
    height, width = frame
    places = np.stack([rows, columns], axis=1)
    distinct, which = np.unique(places, axis=0, return_inverse=True)
    boxes = np.tile(np.array([0, 0, width, height], np.int64), (len(distinct), 1))
    if layer.receptive_field is not None:
        for index, (row, column) in enumerate(distinct):
            boxes[index] = layer.receptive_field.box(int(row), int(column), frame)
    boxes[:, 0], boxes[:, 1] = boxes[:, 0].clip(0, width - 1), boxes[:, 1].clip(0, height - 1)
    boxes[:, 2] = boxes[:, 2].clip(boxes[:, 0] + 1, width)
    boxes[:, 3] = boxes[:, 3].clip(boxes[:, 1] + 1, height)
    chosen = boxes[which.reshape(-1)]
    return {name: chosen[:, side] for side, name in enumerate(("box_x0", "box_y0", "box_x1", "box_y1"))}


def _units_table(miner: Miner, found: Partial) -> pd.DataFrame:
    """One row a unit: layer, unit, maximum, mean (of the images' maxima), silent (share of images where it
    never rises above zero), dead (on all of them), labels (whose images excite it most, with their mean)."""
    import pandas as pd

    tables = []
    for layer in miner.layers:
        part = found.layers[layer.name]
        count = np.maximum(part.count, 1)
        tables.append(
            pd.DataFrame(
                {
                    "layer": layer.name,
                    "unit": np.arange(len(part.count)),
                    "maximum": np.where(part.count > 0, part.largest, np.nan).astype(np.float32),
                    "mean": part.total / count / SCALE,
                    "silent": part.silent / count,
                    "dead": part.silent == part.count,
                    "labels": _best_labels(miner, found, part),
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


def _best_labels(miner: Miner, found: Partial, part: LayerPart, most: int = 3) -> list[str]:
    if not miner.label_names:
        return [""] * len(part.count)
    counted = found.labels > 0
    means = np.where(counted, part.by_label / np.maximum(found.labels, 1) / SCALE, -np.inf)
    best = np.argsort(-means, axis=1, kind="stable")[:, : min(most, int(counted.sum()))]
    return [
        ", ".join(f"{miner.label_names[label]} ({means[unit, label]:.3g})" for label in row)
        for unit, row in enumerate(best)
    ]


def _unreadable_table(miner: Miner, found: Partial) -> pd.DataFrame:
    import pandas as pd

    reasons = []
    for rank in found.unreadable:
        index = int(miner.by_rank[rank])
        reasons.append((miner.dataset.keys[index], _why_unreadable(miner.dataset, index)))
    if reasons:
        miner.job.warn(f"{len(reasons)} of {len(miner.dataset)} images could not be read: see the table unreadable")
    return pd.DataFrame(reasons, columns=["image", "error"])


def _why_unreadable(dataset: Dataset, index: int) -> str:
    from fovea.engine.errors import ImageError

    try:
        dataset.photo(index)
    except ImageError as error:
        return str(error)
    return "it could not be read in the run"


def _summary(miner: Miner, found: Partial, units: pd.DataFrame) -> dict[str, Any]:
    return {
        "images": found.images,
        "unreadable": len(found.unreadable),
        "layers": ", ".join(layer.name for layer in miner.layers),
        "units": len(units),
        "dead units": int(units["dead"].sum()),
    }


# --- pictures


def _add_galleries(job: Job, miner: Miner, result: Result) -> None:
    """One sheet of crops a layer, and the table `gallery` that tells which tile is which patch."""
    from fovea.engine.look.probing.probe import cores
    from fovea.engine.panels.sheet import Sheet

    patches = result.tables["patches"]
    index_of = {key: index for index, key in enumerate(miner.dataset.keys)}
    sheets: dict[str, NDArray[np.uint8]] = {}
    lies: dict[str, Sheet] = {}
    tiles = np.full(len(patches), -1, np.int64)
    for layer in miner.layers:
        mine = (patches["layer"] == layer.name).to_numpy()
        tile, shown = _tile_plan(layer.units, int(patches.loc[mine, "rank"].max()) + 1 if mine.any() else 1)
        sheet = lies[layer.name] = Sheet(tile, shown * max(1, 4096 // (shown * tile)))
        drawn = mine & (patches["rank"] < shown).to_numpy()
        tiles[drawn] = (patches["unit"] * shown + patches["rank"])[drawn]
        sheets[layer.name] = np.full((*sheet.size(layer.units * shown), 3), BACKGROUND, np.uint8)
    result.tables["gallery"] = _gallery_table(miner, patches, tiles)
    drawn_on: dict[int, list[int]] = defaultdict(list)
    for patch, key in enumerate(patches["image"]):
        if tiles[patch] >= 0:
            drawn_on[index_of[key]].append(patch)
    layers, tile_of = patches["layer"].tolist(), tiles.tolist()
    boxes = patches[["box_x0", "box_y0", "box_x1", "box_y1"]].to_numpy().tolist()

    def draw(one: tuple[int, NDArray[np.uint8]]) -> None:
        """Cut all patches out of one image. Units of a layer often share a place: each is cut out once."""
        index, frame = one
        picture = _rgb(frame)
        cut: dict[tuple[int, ...], NDArray[np.uint8]] = {}
        for patch in drawn_on[index]:
            sheet = lies[layers[patch]]
            key = (sheet.tile, *boxes[patch])
            if key not in cut:
                cut[key] = crop_within(picture, boxes[patch], sheet.tile)
            height, width = cut[key].shape[:2]
            tile = sheet.cut(sheets[layers[patch]], tile_of[patch])
            top, left = (sheet.tile - height) // 2, (sheet.tile - width) // 2
            tile[top : top + height, left : left + width] = cut[key]

    with ThreadPoolExecutor(cores(), thread_name_prefix="crop") as pool:
        frames = miner.frames_again(sorted(drawn_on))
        done = 0
        while some := list(itertools.islice(frames, 32)):
            list(pool.map(draw, some))
            done += len(some)
            job.progress(0.98 + 0.02 * done / len(drawn_on), "cutting out the patches")
    for layer in miner.layers:
        name = sheet_name(layer.name)
        result.images[name] = sheets[layer.name]
        result.panels.append(
            GalleryPanel(
                title=f"What excites the units of {layer.name}",
                help="For each unit the images with its largest activations, cut to what the unit sees there. "
                "Grey stands where the receptive field is not square.",
                image=name,
                table="gallery",
                tile=lies[layer.name].tile,
                columns=lies[layer.name].columns,
                group=("layer", "unit"),
                caption=("score", "label", "image") if miner.dataset.labels else ("score", "image"),
                where={"layer": layer.name},
            )
        )
    if miner.layers:
        first = sheets[miner.layers[-1].name]
        tile = lies[miner.layers[-1].name].tile
        result.preview = first[: 4 * tile, : 6 * tile]


def _tile_plan(units: int, top: int) -> tuple[int, int]:
    """The tile's side and the patches drawn for each unit, so that a layer's sheet stays within bounds."""
    for tile in TILES:
        if units * top * tile * tile <= SHEET_PIXELS:
            return tile, top
    return TILES[-1], max(1, SHEET_PIXELS // (units * TILES[-1] ** 2))


def _gallery_table(miner: Miner, patches: pd.DataFrame, tiles: NDArray[np.int64]) -> pd.DataFrame:
    table = patches[["layer", "unit", "rank", "score", "image"]].assign(tile=tiles)
    if miner.dataset.labels:
        label_of = dict(zip(miner.dataset.keys, miner.dataset.labels, strict=True))
        table["label"] = [label_of[key] for key in table["image"]]
    return table[table["tile"] >= 0].reset_index(drop=True)


def sheet_name(layer: str) -> str:
    """The file name of a layer's sheet of crops."""
    return f"patches-{re.sub(r'[^A-Za-z0-9]+', '_', layer)}.jpg"


def _rgb(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A frame as RGB uint8 (H, W, 3)."""
    return np.repeat(frame[..., :1], 3, axis=2) if frame.shape[2] < 3 else frame[..., :3]


def crop_within(picture: NDArray[np.uint8], box: Sequence[int], tile: int) -> NDArray[np.uint8]:
    """The box (x0, y0, x1, y1) of a picture, uint8 (H, W, 3), its shape kept, as the largest uint8 (h, w, 3) that a
    square tile of side `tile` holds."""
    import cv2

    x0, y0, x1, y1 = box
    scale = tile / max(x1 - x0, y1 - y0)
    size = max(1, round((x1 - x0) * scale)), max(1, round((y1 - y0) * scale))
    # Single pixels of a small field should be seen as such; a large field is averaged.
    how = cv2.INTER_NEAREST_EXACT if scale >= 3 else cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture[y0:y1, x0:x1], size, interpolation=how), np.uint8)


def _add_panels(miner: Miner, found: Partial, result: Result) -> None:
    result.panels.append(
        TablePanel(
            title="Units",
            help="For each unit its largest value, the mean of the images' maxima, the share of images where it "
            "is silent (never above zero), and the labels whose images excite it most.",
            table="units",
        )
    )
    if found.unreadable:
        result.panels.append(TablePanel(title="Unreadable images", help="They were left out.", table="unreadable"))


def work(card: Card, options: Any, images: int) -> float:
    """Forward passes: one an image."""
    return float(images)


def needs(card: Card, options: Any, images: int) -> Needs:
    """Bytes of memory and of files. With the number of images only their keys grow, and the frames kept for crops."""
    from fovea.engine.look.probing.probe import batch_size, lanes_for_cores

    layers = chosen_layers(card, options.layers)
    units, top = sum(layer.units for layer in layers), min(options.top, images)
    height, width = card.preprocessing.size
    frame = height * width * card.preprocessing.channels
    lanes = lanes_for_cores()
    batch = options.batch or batch_size("cpu", lanes)
    maps = 4 * max(math.prod(layer.shape) for layer in card.layers)
    pixels = 0
    for layer in layers:
        tile, shown = _tile_plan(layer.units, top)
        pixels += layer.units * shown * tile * tile
    memory = (
        PROCESS_BYTES
        + 12 * card.parameters  # torch's, the graph's, the session's
        + lanes * batch * (3 * maps + 4 * frame)
        + min(images * frame, KEPT_BYTES)
        + KEY_BYTES * images
        + units * (60 * top + 16 * SHARD + 32 * HISTOGRAM_BINS)
        + 3 * pixels
        + 350 * units * top
    )
    return Needs(memory, int(SHEET_BYTES * pixels) + 30 * units * top + 30 * units)


METHOD = Method(
    name="patches",
    title="Exciting patches",
    verb="look",
    family="Patches",
    question="What excites it?",
    home="What excites it?",
    summary="Finds the places of a data set that excite each unit most, in one pass (Zeiler and Fergus 2014).",
    options=PatchesOptions,
    compute=run,
    work=work,
    needs=needs,
    photo=False,
    long=True,
    version=2,
    check=check,
    every_unit=True,
)
