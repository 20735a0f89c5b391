"""Maximally activating patches: what of a data set excites each unit most."""

from pages.ui.workbench import family_page

family_page("patches")
