"""Fovea: see what your network sees. This package is the public face; the rooms behind it are `fovea.engine` and
`fovea.models`.

In a checkout the rooms lie beside this folder, in an installed package inside it. Either way they are imported as
`fovea.engine`, `fovea.models` and `fovea.pages` and never as `engine`, `models` or `pages`: users' own code has
packages of those names.
"""

from pathlib import Path

__version__ = "0.1.0"

if not (Path(__file__).parent / "engine").is_dir():
    __path__.append(str(Path(__file__).resolve().parent.parent))
