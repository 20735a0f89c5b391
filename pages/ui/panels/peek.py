"""A thumbnail at the pointer, for every point of a Plotly chart whose run keeps a sheet of them."""

from __future__ import annotations

from typing import Any

import streamlit as st

from fovea.engine.panels import Panel
from fovea.pages.ui.panels.gallery import sheet_of

SIZE = 132

_JS = """
export default function ({ data, parentElement }) {
  const box = document.createElement('div');
  box.className = 'fovea-peek';
  Object.assign(box.style, { position: 'fixed', zIndex: 1000000, width: data.size + 'px', height: data.size + 'px',
    pointerEvents: 'none', display: 'none', borderRadius: '8px', boxShadow: '0 2px 14px rgba(0, 0, 0, .35)',
    backgroundRepeat: 'no-repeat', backgroundImage: `url("${data.sheet}")`,
    backgroundSize: `${data.columns * 100}% ${data.rows * 100}%` });
  document.body.appendChild(box);
  let plot = null, waiting = 0;
  const place = (part, all) => all > 1 ? 100 * part / (all - 1) : 0;
  const show = (event) => {
    const tile = event.points[0].customdata && event.points[0].customdata[1];
    if (!(tile >= 0)) return;
    box.style.backgroundPosition =
      `${place(tile % data.columns, data.columns)}% ${place(Math.floor(tile / data.columns), data.rows)}%`;
    const { clientX: x, clientY: y } = event.event;
    const left = x - 18 - data.size;
    box.style.left = (left < 4 ? x + 18 : left) + 'px';
    box.style.top = Math.max(4, Math.min(y - data.size - 14, window.innerHeight - data.size - 4)) + 'px';
    box.style.display = 'block';
  };
  const hide = () => { box.style.display = 'none'; };
  const attach = () => {
    plot = document.querySelector(`.st-key-${CSS.escape(data.place)} .js-plotly-plot`);
    if (!plot || !plot.on) { waiting = setTimeout(attach, 200); return; }
    plot.on('plotly_hover', show);
    plot.on('plotly_unhover', hide);
  };
  attach();
  return () => {
    clearTimeout(waiting);
    if (plot && plot.removeListener) {
      plot.removeListener('plotly_hover', show);
      plot.removeListener('plotly_unhover', hide);
    }
    box.remove();
  };
}
"""

_peek = st.components.v2.component("fovea_peek", js=_JS)


def peek(panel: Panel, run: Any, place: str, key: str) -> None:
    """Let the chart inside the container `place` show the panel's tiles where it is pointed at."""
    _peek(key=f"{key}:peek", data=sheet_of(panel, run) | {"place": place, "size": SIZE}, height=1)
