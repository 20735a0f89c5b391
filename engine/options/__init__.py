"""Options and what they can name. One file for each group of kinds: it parses, verifies, and names its inputs."""

from fovea.engine.options.base import Declared, Kind, Options, declared, option
from fovea.engine.options.choice import ChoiceKind
from fovea.engine.options.classes import ClassesKind, ClassKind, class_indices
from fovea.engine.options.dataset import DatasetKind, ItemKind, LabelKind
from fovea.engine.options.layer import LayerKind, LayersKind
from fovea.engine.options.lists import CommaList, parts_of
from fovea.engine.options.network import NetworkKind, NetworksKind
from fovea.engine.options.photo import PhotoKind
from fovea.engine.options.unit import (
    POSITION_HELP,
    Position,
    PositionKind,
    UnitKind,
    check_class_or_unit,
    position_of,
)

__all__ = [
    "POSITION_HELP",
    "ChoiceKind",
    "ClassKind",
    "ClassesKind",
    "CommaList",
    "DatasetKind",
    "Declared",
    "ItemKind",
    "Kind",
    "LabelKind",
    "LayerKind",
    "LayersKind",
    "NetworkKind",
    "NetworksKind",
    "Options",
    "PhotoKind",
    "Position",
    "PositionKind",
    "UnitKind",
    "check_class_or_unit",
    "class_indices",
    "declared",
    "option",
    "parts_of",
    "position_of",
]
