"""Gradient ascent: an image that excites a class or a unit, drawn step by step."""

from pages.ui.workbench import family_page

family_page("ascent")
