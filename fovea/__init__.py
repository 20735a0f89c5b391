"""Fovea: see what your network sees. This package is the public face for Python.

    >>> import fovea
    >>> run = fovea.open("torchvision:resnet18").saliency("cat.jpg", target="tabby")
    >>> run.arrays["saliency"], run.tables, run.images, run.summary

Behind it lie the rooms `fovea.engine`, `fovea.models` and `fovea.pages`: beside this folder in a checkout, inside it
in an installed package. Either way they are imported by these names and never as `engine`, `models` or `pages`, because
users' own code has packages of those names. Every import of a room runs this file, so it loads nothing by itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fovea.version import __version__

if TYPE_CHECKING:
    from fovea.api import Network

if not (Path(__file__).parent / "engine").is_dir():
    __path__.append(str(Path(__file__).resolve().parent.parent))


def open(network: str | Path = "fovea") -> Network:
    """A network, ready for every method.

    `network` is a name that the command line takes (`fovea`, `torchvision:NAME[@WEIGHTS]`, `timm:NAME`, `onnx:PATH`, or
    one that you registered), or the path of an ONNX file. Raises UnknownNameError or NetworkError, one line.
    """
    from fovea.api import Network

    return Network(network)


__all__ = ["__version__", "open"]
