"""The one tree of errors. Every message is one line: what was expected, what came, what to do.

FoveaError                  (fovea.models.errors)
├── UnknownNameError        a network, layer, unit, class, method, data set or sample does not exist
├── NetworkError            a network cannot be found, built, loaded or exported
│   ├── WeightsError        missing, unreadable, unsafe, or of another architecture
│   └── ParityError         the ONNX graph and the torch network disagree
├── ProviderError           a device or provider that does not work here
├── ImageError              a photo cannot be read
├── DatasetError            a data set cannot be read, or has no image in it
├── OptionsError            an option has a wrong value, or two that do not go together
├── UnsupportedError        this method cannot work on this network, and why
├── StoreError              a run cannot be saved, found, imported or exported
├── NotAllowedError         this visitor may not do that, or has taken all that one visitor may
└── Cancelled               not a mistake: the user stopped the run
"""

from __future__ import annotations

from fovea.models.card import OUTPUT
from fovea.models.errors import (
    FoveaError,
    NetworkError,
    ParityError,
    ProviderError,
    UnknownNameError,
    WeightsError,
    unknown,
)

__all__ = [
    "Cancelled",
    "DatasetError",
    "FoveaError",
    "ImageError",
    "NetworkError",
    "NotAllowedError",
    "OptionsError",
    "ParityError",
    "ProviderError",
    "StoreError",
    "UnknownNameError",
    "UnsupportedError",
    "WeightsError",
    "needs_photo",
    "not_finite",
    "unknown",
]


class ImageError(FoveaError):
    """A photo cannot be read: missing, truncated, too large, or not an image."""


class DatasetError(FoveaError):
    """A data set cannot be read, or has no readable image in it."""


class NotAllowedError(FoveaError):
    """A visitor's role or quota does not allow what they asked for; the line says who may, or what to do."""


class OptionsError(FoveaError):
    """An option has a value outside its limits, or two options do not go together."""


class UnsupportedError(FoveaError):
    """The method cannot work on this network or layer; the line says why."""


def needs_photo(what: str, sample: str = "cat") -> OptionsError:
    """The error for `what` (a method's name, "a dream") that was given no photo; `sample` is one that shows it well."""
    return OptionsError(f"{what} needs a photo: give --image PATH or --image sample:{sample}")


def not_finite(tap: str) -> NetworkError:
    """The error for a tap whose values are NaN or infinite, whatever method reads it."""
    where = "the network" if tap == OUTPUT else f"layer {tap}"
    return NetworkError(
        f"the output of {where} is not finite: the network overflows on this input, or its weights hold NaN or infinity"
    )


class StoreError(FoveaError):
    """A run cannot be saved, found, imported or exported."""


class Cancelled(FoveaError):
    """The user stopped the run; raised by `Job.progress`."""
