"""Activation maps: what every unit of a layer answers to the photo, and the whole network at a glance."""

from fovea.pages.ui.workbench import family_page

family_page("activations")
