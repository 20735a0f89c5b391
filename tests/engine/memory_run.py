"""A run that lives in memory, with a panel of every kind: what figures and reports are tried on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from fovea.engine.data.photos import open_photo
from fovea.engine.panels import (
    BarsPanel,
    Cells,
    ChannelsPanel,
    CurvePanel,
    GalleryPanel,
    HeatmapPanel,
    ImagePanel,
    OverlayPanel,
    Panel,
    ScatterPanel,
    TablePanel,
    TextPanel,
)
from fovea.engine.panels.sheet import Sheet, fit_tile
from fovea.engine.run.record import Input, NetworkRef, RunRecord

KINDS = ("image", "overlay", "heatmap", "gallery", "curve", "bars", "scatter", "channels", "table", "text")


@dataclass
class MemoryRun:
    """The arrays, tables and pictures of a run, by name."""

    record: RunRecord
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    images: dict[str, Image.Image] = field(default_factory=dict)

    def array(self, name: str) -> np.ndarray:
        return self.arrays[name]

    def table(self, name: str) -> pd.DataFrame:
        return self.tables[name]

    def image(self, name: str) -> Image.Image:
        return self.images[name]


def record(panels: list[Panel], **fields: Any) -> RunRecord:
    """A finished run's record."""
    given: dict[str, Any] = {
        "id": "20260101-120000-occlusion-abc123",
        "method": "occlusion",
        "status": "done",
        "network": NetworkRef(name="squeezenet", sha256="3f" * 32),
        "inputs": [Input(name="image", kind="photo", reference="sample:cat", sha256="ab" * 32, title="cat")],
        "options": {"window": 32, "stride": 16, "target": "tabby cat"},
        "summary": {"top class": "tabby cat", "probability": 0.8731, "windows": 169},
        "versions": {"torch": "2.13.0", "fovea": "0.1"},
        "device": "cpu",
        "provider": "cpu",
        "seconds": 4.2,
        "started": "2026-01-01T12:00:00.000+00:00",
        "panels": panels,
    }
    return RunRecord(**(given | fields))


def every_panel(label: str = "tabby cat") -> MemoryRun:
    """A run with a panel of every kind; `label` stands wherever a user's text may stand."""
    random = np.random.default_rng(0)
    photo = open_photo("sample:cat").resize((224, 224))
    y, x = np.mgrid[:224, :224]
    bump = np.exp(-((y - 80) ** 2 + (x - 90) ** 2) / 1800) - 0.5 * np.exp(-((y - 170) ** 2 + (x - 170) ** 2) / 900)
    starts = np.arange(0, 193, 16)
    tiles = [fit_tile(photo.crop((i * 9, i * 7, i * 9 + 64, i * 7 + 64)), 64) for i in range(12)]
    step = np.arange(60)
    points = pd.DataFrame(
        {
            "x": random.normal(size=150),
            "y": random.normal(size=150),
            "label": [label, "dog", "cup"] * 50,
            "image": [f"{label}/{i}.jpg" for i in range(150)],
        }
    )
    panels = [
        OverlayPanel(
            title=f"Where squeezenet looks for {label}",
            help="How far the probability falls when a window over the pixel is covered.",
            image="photo",
            array="heatmap",
            scale="diverging",
            units="drop of probability",
            cells=Cells(ys="ys", xs="xs", height=32, width=32, values="score", label="probability", cover="cover"),
        ),
        OverlayPanel(title="Saliency", image="photo", array="saliency", units="|gradient|"),
        HeatmapPanel(title="The map alone", array="heatmap", scale="diverging", units=label),
        ImagePanel(title="What excites it", image="made", help="Made by gradient ascent."),
        GalleryPanel(
            title="Patches",
            help="The images with the largest activations.",
            image="sheet",
            table="patches",
            tile=64,
            columns=4,
            group=("layer", "unit"),
            caption=("score", "label"),
        ),
        GalleryPanel(title="Neighbours", image="sheet", table="flat", tile=64, columns=4, caption=("label",)),
        CurvePanel(title="How it grew", table="losses", x="step", y=("activation", "total"), log=False),
        BarsPanel(title="Classes", table="classes", x="class", y=("probability",)),
        ScatterPanel(title="A map of features", table="points", x="x", y=("y",), caption=("label", "image")),
        ChannelsPanel(title="Channels", array="activations", image="photo", units="activation"),
        TablePanel(title="Table", table="classes"),
        TextPanel(title=f"A note on {label}", help=f"Nothing to see but {label}."),
    ]
    return MemoryRun(
        record(panels, name=f"Test of {label}", note=f"first line\n{label}", warnings=[f"weights are random: {label}"]),
        arrays={
            "heatmap": bump.astype(np.float32),
            "saliency": np.abs(random.normal(size=(224, 224)) * np.maximum(bump, 0)).astype(np.float32),
            "score": (0.8 - 0.7 * bump[16::16, 16::16]).astype(np.float32),
            "ys": starts,
            "xs": starts,
            "activations": np.maximum(random.normal(size=(20, 13, 13)) + bump[::18, ::18], 0).astype(np.float32),
        },
        tables={
            "patches": pd.DataFrame(
                {
                    "layer": ["conv1"] * 12,
                    "unit": [i // 4 for i in range(12)],
                    "rank": [i % 4 for i in range(12)],
                    "score": 9.0 - np.arange(12) / 3,
                    "label": [label] * 12,
                }
            ),
            "flat": pd.DataFrame({"label": [label] * 12}),
            "losses": pd.DataFrame({"step": step, "activation": 20 * (1 - np.exp(-step / 20)), "total": 3 + step / 30}),
            "classes": pd.DataFrame(
                {
                    "class": [label, "Egyptian cat", "tiger cat", "lynx", "window screen"],
                    "probability": [0.87, 0.06, 0.03, 0.01, 0.005],
                }
            ),
            "points": points,
        },
        images={
            "photo": photo,
            "cover": Image.new("RGB", (224, 224), (124, 116, 104)),
            "made": photo.rotate(180),
            "sheet": Image.fromarray(Sheet(64, 4).compose(tiles)),
        },
    )
