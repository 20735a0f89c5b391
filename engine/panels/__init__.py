"""Panels: what a run shows. One file for each kind, with its fields and how it is drawn."""

from fovea.engine.panels.bars import BarsPanel
from fovea.engine.panels.base import Panel, RunView, Scale, TableView
from fovea.engine.panels.cells import Cells
from fovea.engine.panels.channels import ChannelsPanel
from fovea.engine.panels.curve import CurvePanel
from fovea.engine.panels.gallery import GalleryPanel
from fovea.engine.panels.heatmap import HeatmapPanel
from fovea.engine.panels.image import ImagePanel
from fovea.engine.panels.kinds import AnyPanel, panel_kinds
from fovea.engine.panels.overlay import OverlayPanel
from fovea.engine.panels.scatter import ScatterPanel
from fovea.engine.panels.table import TablePanel
from fovea.engine.panels.text import TextPanel

__all__ = [
    "AnyPanel",
    "BarsPanel",
    "Cells",
    "ChannelsPanel",
    "CurvePanel",
    "GalleryPanel",
    "HeatmapPanel",
    "ImagePanel",
    "OverlayPanel",
    "Panel",
    "RunView",
    "Scale",
    "ScatterPanel",
    "TablePanel",
    "TableView",
    "TextPanel",
    "panel_kinds",
]
