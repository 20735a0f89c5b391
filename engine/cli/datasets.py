"""`datasets`: which there are, what is in each, and your own."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from fovea.engine.cli.say import Debug, Json, alone, card_of, errors, group, print_json, print_table, told_progress

datasets_app = group("List the data sets that can be mined, and register your own.")


@datasets_app.command("list")
def list_datasets(as_json: Json = False) -> None:
    """List the data sets that can be named after --dataset."""
    with errors():
        from fovea.engine.data.catalogue import known_datasets

        known = known_datasets()
        if as_json:
            print_json({"datasets": {name: str(path) for name, path in _pairs(known)}})
            return
        print_table([(name, path) for name, path in _pairs(known)])


alone(datasets_app, list_datasets)


def _pairs(known: Any) -> list[tuple[str, Any]]:
    return list(known.items()) if isinstance(known, Mapping) else [(str(name), "") for name in known]


@datasets_app.command("add")
def add_dataset(name: str, path: str, debug: Debug = False) -> None:
    """Register a folder of images, or a list file, under a name."""
    with errors(debug):
        from fovea.engine.data.catalogue import open_dataset, register_dataset

        register_dataset(name, path)
        dataset = open_dataset(name)
        print(f"{name}: {len(dataset)} images, {len(dataset.classes)} labels")
        for note in dataset.notes:
            print(f"  note: {note}")


@datasets_app.command("inspect")
def inspect_dataset(name: str, debug: Debug = False) -> None:
    """Count the images and labels of a data set, and list the images that cannot be read."""
    with errors(debug):
        from fovea.engine.data import survey
        from fovea.engine.data.catalogue import open_dataset

        with told_progress() as say:
            dataset = open_dataset(name)
            found = survey.inspect_dataset(
                dataset,
                progress=lambda done, total: say(done / max(total, 1), f"{done:,} of {total:,} images", None, None),
            )
        labels = {label: count for label, count in sorted(found.labels.items()) if label}
        print(f"{found.name}: {len(labels)} labels")
        for label, count in labels.items():
            print(f"  {label}: {count}")
        for note in dataset.notes:
            print(f"  note: {note}")
        for key, reason in found.unreadable:
            print(f"  unreadable: {key}: {reason}")
        print(", ".join(f"{fact}: {value}" for fact, value in found.summary().items()))


@datasets_app.command("mean")
def mean_of_dataset(
    name: str,
    network: Annotated[str, typer.Option(help="The network into whose input frame the images are brought.")] = "fovea",
    output: Annotated[Path | None, typer.Option(help="The PNG file that the mean image is written to.")] = None,
    limit: Annotated[
        int, typer.Option(min=1, help="The largest number of images to average, spread evenly over the set.")
    ] = 2000,
    debug: Debug = False,
) -> None:
    """Compute the mean colour of a data set, 0 to 255, and its mean image, with which occlusion can fill its window."""
    with errors(debug):
        from fovea.engine.data.catalogue import open_dataset
        from fovea.engine.data.survey import mean_image

        found = mean_image(open_dataset(name), card_of(network).preprocessing, limit=limit)
        print("mean colour: " + ", ".join(f"{value:.1f}" for value in found.mean((0, 1))))
        if output is not None:
            from PIL import Image

            pixels = np.rint(found).astype(np.uint8)
            Image.fromarray(pixels if pixels.shape[2] > 1 else pixels[..., 0]).save(output)
            print(output)


@datasets_app.command("download")
def download_dataset(name: Annotated[str, typer.Argument()] = "", debug: Debug = False) -> None:
    """Download a public set and register it, or list these sets where no name is given."""
    with errors(debug):
        from fovea.engine.data import downloads

        if not name:
            for one in downloads.DOWNLOADS.values():
                print(f"{one.name}: {one.title}; {one.images:,} images, {one.megabytes} MB; {one.licence}")
            return
        wanted = downloads.DOWNLOADS.get(name)
        if wanted is not None:
            about = f"{wanted.title}, {wanted.megabytes} MB. Licence: {wanted.licence} ({wanted.home})"
            print(about, file=sys.stderr, flush=True)
        found = downloads.download_dataset(name)
        print(f"{name}: {len(found)} images ({downloads.DOWNLOADS[name].licence})")


@datasets_app.command("remove")
def remove_dataset(name: str) -> None:
    """Forget a data set's name; its files stay."""
    with errors():
        from fovea.engine.data.catalogue import unregister_dataset

        unregister_dataset(name)
        print(f"removed {name}")
