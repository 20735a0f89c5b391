"""Gradient ascent: an image that excites a class or a unit, drawn step by step."""

from pages.ui.workbench import workbench

workbench("ascent")
