"""What a visitor does: everything that starts, changes or brings something goes through here, where it is asked whether
they may. A button that is not drawn, or drawn pale, keeps nobody from sending what a press of it would send."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import streamlit as st
from PIL import Image

from fovea.engine.data import catalogue, photos, uploads
from fovea.engine.errors import NotAllowedError
from fovea.engine.run.estimate import amount
from fovea.engine.run.record import Request
from fovea.engine.work import cards, runs
from fovea.models import registry
from fovea.pages.door.listening import team_here
from fovea.pages.ui import reads
from fovea.pages.ui.visitor import visitor


def submit(request: Request) -> str:
    """Queue a run in the visitor's name, as `fovea.engine.work.runs.submit`. Raises NotAllowedError."""
    return runs.submit(request, owner=_starter())


def repeat(run_id: str) -> str:
    """Queue a run again, in the name of who asks now. Raises NotAllowedError."""
    return runs.repeat(run_id, owner=_starter())


def cancel(run_id: str) -> None:
    """Stop a run. Raises NotAllowedError, StoreError."""
    _of_own(run_id, "cancel")
    reads.store().cancel(run_id)


def edit(run_id: str, **changes: Any) -> None:
    """Give a run a name or a note, or pin it. Raises NotAllowedError, StoreError."""
    _of_own(run_id, "rename or pin")
    reads.store().edit(run_id, **changes)


def delete(run_id: str) -> None:
    """Delete a run. Raises NotAllowedError, StoreError."""
    _of_own(run_id, "delete")
    reads.store().delete(run_id)


def import_zip(content: bytes) -> str:
    """Take in an exported run; it belongs to who brought it. Raises NotAllowedError, StoreError."""
    return reads.store().import_zip(content, owner=_keeper("import runs"))


def read_network(name: str) -> cards.CardStatus:
    """Have a worker read a network. Raises NotAllowedError."""
    _runner("have networks read")
    return cards.request_card(name)


def keep_photo(source: bytes | Image.Image, name: str) -> str:
    """Keep a photo by its content; its reference. Raises NotAllowedError, ImageError."""
    _keeper("choose photos of your own")
    return photos.keep_photo(source, name)


def keep_weights(upload: Any) -> Path:
    """Keep uploaded weights. Raises NotAllowedError, WeightsError, StoreError."""
    _keeper("add networks")
    return uploads.keep_weights(upload, upload.name)


def keep_classes(upload: Any) -> Path:
    """Keep uploaded names of classes. Raises NotAllowedError, WeightsError, StoreError."""
    _keeper("add networks")
    return uploads.keep_classes(upload, upload.name)


def register_network(name: str, **fields: Any) -> None:
    """Add a network. Raises NotAllowedError, NetworkError."""
    _runner("add networks")
    registry.register(name, **fields)


def remove_network(name: str) -> None:
    """Take a network out of the list, which all visitors share. Raises NotAllowedError, NetworkError."""
    _admin("remove networks")
    uploads.remove_network(name)


def take_back_network(name: str) -> None:
    """Take out of the list a network of this very visitor that a worker could not read. Raises NotAllowedError."""
    _runner("add networks")
    uploads.remove_network(name)


def compute_here() -> None:
    """Raise NotAllowedError unless the visitor may have the server itself compute something."""
    _runner("have it computed")


def register_dataset(name: str, path: Path) -> None:
    """Add a data set by its path on the server. Raises NotAllowedError, DatasetError."""
    _admin("add data sets")
    catalogue.register_dataset(name, path)


def unregister_dataset(name: str) -> None:
    """Forget a data set, which all visitors share. Raises NotAllowedError, DatasetError."""
    _admin("remove data sets")
    catalogue.unregister_dataset(name)


def _runner(what: str) -> str:
    """The visitor's name if they may start things."""
    here = visitor()
    if not here.may_run:
        raise NotAllowedError(f"You may look at everything here, but not {what}. Ask an admin of this server.")
    return here.name


def _admin(what: str) -> None:
    if visitor().role != "admin":
        raise NotAllowedError(f"Only an admin of this server may {what}.")


def _of_own(run_id: str, what: str) -> None:
    owner = reads.store().run(run_id).record.owner
    if not visitor().may_change(owner):
        who = f"{owner} or an admin" if owner else "an admin of this server"
        raise NotAllowedError(f"Only {who} may {what} this run.")


def _starter() -> str:
    """The visitor's name if they may start one more run."""
    name, team, store = _keeper("start runs"), team_here(), reads.store()
    if team is not None and visitor().role != "admin":
        going = sum(store.count(owner=name, status=status) for status in ("queued", "running"))
        if going >= team.quota.queued_runs:
            raise NotAllowedError(
                f"You have {going} runs that wait or run, and one visitor may have {team.quota.queued_runs}. Wait for "
                "one to end, or cancel one."
            )
    return name


def _keeper(what: str) -> str:
    """The visitor's name if they may start things and there is room for what they leave."""
    name, team = _runner(what), team_here()
    if team is not None and visitor().role != "admin":
        taken = _stored_bytes(reads.root(), name)
        if taken >= team.quota.stored_bytes:
            raise NotAllowedError(
                f"Your runs take {amount(taken)}, and those of one visitor may take {amount(team.quota.stored_bytes)}. "
                "Delete some in the Library."
            )
    return name


@st.cache_data(show_spinner=False, ttl=20, max_entries=256)
def _stored_bytes(root: str, owner: str) -> int:
    return reads.store().stored_bytes(owner)
