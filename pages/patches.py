"""Maximally activating patches: what of a data set excites each unit most."""

from fovea.pages.ui.workbench import family_page

family_page("patches")
