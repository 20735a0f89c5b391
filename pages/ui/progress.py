"""A run as it goes: its picture as it grows, its curve, the time left and Cancel; then its result."""

from __future__ import annotations

import base64
import io
import math
from pathlib import Path
from typing import Any

import streamlit as st
from PIL import Image

from fovea.engine.run.estimate import duration
from fovea.pages.ui import acts, reads, state
from fovea.pages.ui.facts import show_facts
from fovea.pages.ui.links import artifact_url, photo_url
from fovea.pages.ui.panels.show import show_panels
from fovea.pages.ui.text import errors_as_lines, escaped, label, plain, show_error, value
from fovea.pages.ui.visitor import visitor

POLL_SECONDS = 0.8

COLOURS = ("#d08a1d", "#2f8f98", "#b55c82", "#7d9a45")
"""The lines of the losses, legible on the light and on the dark face."""


def show_run(run_id: str, key: str) -> Any:
    """A run in whatever state it is; the finished run, or None while it goes or when it failed."""
    run = reads.store().run(run_id)
    if run.record.status not in reads.FINAL:
        st.fragment(live_run, run_every=POLL_SECONDS)(run_id, f"{key}:live")
        return None
    if run.record.status != "done":
        show_unfinished(run)
        return None
    show_warnings(run)
    show_panels(run, f"{key}:{run_id}")
    show_summary(run)
    return run


def show_unfinished(run: Any) -> None:
    """One line for a run that failed, was cancelled or interrupted."""
    status, error = run.record.status, run.record.error
    if status == "failed":
        show_error(error or "This run failed and left no reason.")
    elif status == "cancelled":
        st.info(
            "This run was cancelled. Press Run to start it again. The last picture that it made stands below, if any.",
            icon=":material/block:",
        )
    else:
        st.info(
            "This run was interrupted when the worker stopped. Repeat it: a long run goes on from its last checkpoint.",
            icon=":material/power_off:",
        )
    if run.preview is not None:
        st.html(f'<img class="fovea-hero" src="{escaped(artifact_url(run.id, "preview.png"))}" alt="the last picture">')


def show_warnings(run: Any) -> None:
    """What a reader must know before the pictures, each in one line."""
    for line in run.record.warnings or []:
        st.markdown(f":orange[:material/info: {plain(line)}]")


def show_summary(run: Any) -> None:
    """The numbers that name the outcome, in a row."""
    show_facts(
        {
            label(name): value(number)
            for name, number in (run.record.summary or {}).items()
            if number is not None and (not isinstance(number, dict | list) or len(number) <= 5)
        }
    )


def live_run(run_id: str, key: str) -> None:
    """One look at a running run; reruns the page when it is over."""
    store = reads.store()
    run = store.run(run_id)
    if run.record.status in reads.FINAL:
        st.rerun()
    live = store.live(run_id)
    if live is None:
        st.rerun()
    mine = visitor().may_change(run.record.owner)
    bar, stop = st.columns([5, 1], vertical_alignment="center")
    with bar:
        show_bar(live)
    if stop.button(
        "Cancel",
        icon=":material/stop_circle:",
        key=f"{key}:cancel",
        width="stretch",
        disabled=live.cancelling or not mine,
    ):
        with errors_as_lines():
            acts.cancel(run_id)
    _growing(live, run)


def show_bar(live: Any) -> None:
    """How far a running run is, and how long it will still take."""
    words = [plain(live.message)]
    if live.ahead:
        words.append(f"{live.ahead} {'run' if live.ahead == 1 else 'runs'} before it")
    if live.seconds_left is not None and live.seconds > 1.5:
        words.append(f"about {duration(live.seconds_left)} left")
    st.progress(min(max(live.fraction, 0.0), 1.0), text="Cancelling…" if live.cancelling else " · ".join(words))


def _growing(live: Any, run: Any) -> None:
    """The picture and the losses so far, side by side."""
    picture, curve = live.preview, live.curve
    if not picture and not curve:
        if run.record.image and state.PHOTO.fullmatch(run.record.image):
            source = photo_url(run.record.image, 900)
            st.html(f'<img class="fovea-hero fovea-waiting" src="{escaped(source)}" alt="the photo that is looked at">')
        return
    left, right = st.columns([3, 2], gap="large")
    if picture:
        with left, st.container(key="growing-picture"):
            st.html(f'<img class="fovea-hero" alt="the picture so far" src="{_inline(picture)}">')
    if curve:
        right.caption("These are the losses so far, each between its smallest and its largest value.")
        right.html(loss_curves(curve))


def _inline(picture: Path) -> str:
    """A growing picture inside the page itself: the next look replaces it before a browser could fetch it."""
    buffer = io.BytesIO()
    with Image.open(picture) as opened:
        opened.convert("RGB").save(buffer, "JPEG", quality=88)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _drawing(points: str, colour: str) -> str:
    """A line as an SVG picture in base64, stretched to whatever width it gets."""
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" width="300" height="62" viewBox="0 0 300 62" '
        f'preserveAspectRatio="none"><polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2" '
        'vector-effect="non-scaling-stroke"/></svg>'
    )
    return base64.b64encode(svg.encode()).decode()


def loss_curves(curve: list[dict[str, float]], points: int = 120) -> str:
    """The losses by term as a small drawing, each between its own smallest and largest value.

    It is drawn anew at every look at the run, so it is kept far lighter than a chart.
    """
    names = [name for name in curve[-1] if name not in ("step", "total")] or ["total"]
    names = [*(["total"] if "total" in curve[-1] and "total" not in names else []), *names]
    shown = curve[:: max(1, len(curve) // points)]
    lines = []
    for place, name in enumerate(names):
        values = [row[name] for row in shown if math.isfinite(row.get(name, math.nan))]
        if not values:
            continue
        low, span = min(values), (max(values) - min(values)) or 1.0
        across = 300 / max(len(values) - 1, 1)
        path = " ".join(f"{n * across:.1f},{58 - 54 * (v - low) / span:.1f}" for n, v in enumerate(values))
        lines.append(
            f'<div class="fovea-loss"><span>{escaped(label(name))}</span>'
            f"<b>{escaped(value(values[-1]))}</b>"
            f'<img alt="" src="data:image/svg+xml;base64,{_drawing(path, COLOURS[place % len(COLOURS)])}"></div>'
        )
    return "".join(lines)
