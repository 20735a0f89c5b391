"""The little CSS that the theme's settings cannot say; colours come from the theme, light or dark."""

from __future__ import annotations

import streamlit as st

_CSS = """
<style>
[data-testid="stMainBlockContainer"] { padding: 2.6rem 3rem 3rem; max-width: 1800px; }
.fovea-current { display: flex; gap: .8rem; align-items: center; font-size: .87rem; }
.fovea-current img { width: 84px; height: 84px; object-fit: cover; border-radius: 8px; flex: none; }
.fovea-section { font-size: .8rem; opacity: .65; margin: .5rem 0 .15rem; letter-spacing: .02em; }
.fovea-hero { height: 60vh; width: auto; max-width: 100%; object-fit: contain; object-position: left top;
  border-radius: 8px; display: block; }
.fovea-waiting { filter: grayscale(1); opacity: .45; }
.fovea-thumb { width: 100%; aspect-ratio: 4 / 3; object-fit: cover; border-radius: 6px; display: block; }
.fovea-preview { width: 100%; aspect-ratio: 1; object-fit: contain; border-radius: 6px; display: block;
  background: rgba(128, 120, 105, .12); }
[class*="st-key-square-"] { max-width: 78vh; }
[class*="st-key-square-"] [data-testid="stPlotlyChart"] { aspect-ratio: 1 / 1.16; height: auto !important; }
.fovea-bar { display: grid; grid-template-columns: 1fr auto; column-gap: 12px; margin-bottom: .65rem; }
.fovea-bar-name { overflow-wrap: anywhere; }
.fovea-bar-share { font-variant-numeric: tabular-nums; opacity: .8; }
.fovea-bar-track { grid-column: 1 / -1; height: 9px; border-radius: 5px; background: rgba(128, 120, 105, .2); }
.fovea-bar-fill { height: 100%; border-radius: 5px; background: #d08a1d; }
.fovea-loss { display: grid; grid-template-columns: 1fr auto; margin-bottom: .7rem; font-size: .85rem; }
.fovea-loss b { font-weight: 600; font-variant-numeric: tabular-nums; }
.fovea-loss img { grid-column: 1 / -1; width: 100%; height: 62px; border-bottom: 1px solid rgba(128, 120, 105, .35); }
.fovea-facts { display: flex; flex-wrap: wrap; gap: .5rem 2rem; margin: .2rem 0 .6rem; }
.fovea-fact span { display: block; font-size: .78rem; opacity: .7; }
.fovea-fact b { font-weight: 600; font-variant-numeric: tabular-nums; }
.st-key-home-verbs button { min-height: 4.4rem; }
.st-key-home-verbs button p { font-size: 1.15rem; font-weight: 600; }
.st-key-growing-picture img { max-height: 68vh; object-fit: contain; object-position: left top; image-rendering: auto; }
@media (max-width: 640px) {
  [data-testid="stMainBlockContainer"] { padding: 3rem .8rem 2rem; }
  .fovea-hero { height: auto; max-height: 48vh; }
}
</style>
"""


def style() -> None:
    """Add the rules to the page."""
    st.html(_CSS)
