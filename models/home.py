"""Where Fovea keeps what it writes: runs, exports, engines, `networks.toml`."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def home() -> Path:
    """`$FOVEA_HOME`, or the platform's user data folder; made if it is not there."""
    root = Path(os.environ.get("FOVEA_HOME") or platformdirs.user_data_dir("fovea", appauthor=False)).expanduser()
    root.mkdir(parents=True, exist_ok=True)
    return root
