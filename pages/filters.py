"""Filters: the weights of a layer as pictures, and what can and cannot be read from them."""

from fovea.pages.ui.workbench import family_page

family_page("filters")
