"""Panels: what a run shows. One file for each kind, with its fields, its figure and its part of a report."""

from fovea.engine.panels.bars import BarsPanel
from fovea.engine.panels.base import Panel, Reads, ReportPart, RunView, SheetView, TableView
from fovea.engine.panels.cells import Cells
from fovea.engine.panels.channels import ChannelsPanel
from fovea.engine.panels.curve import CurvePanel
from fovea.engine.panels.gallery import GalleryPanel
from fovea.engine.panels.heatmap import HeatmapPanel
from fovea.engine.panels.image import ImagePanel
from fovea.engine.panels.kinds import AnyPanel, panel_kinds
from fovea.engine.panels.look import Look, Scale
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
    "Look",
    "OverlayPanel",
    "Panel",
    "Reads",
    "ReportPart",
    "RunView",
    "Scale",
    "ScatterPanel",
    "SheetView",
    "TablePanel",
    "TableView",
    "TextPanel",
    "panel_kinds",
]
