"""Guided backprop: what in a photo, or in a unit's best patches, makes the unit fire."""

from fovea.pages.ui.workbench import family_page

family_page("guided")
