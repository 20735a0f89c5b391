"""Saliency: which pixels a class or unit answers to, by one backward pass."""

from fovea.pages.ui.workbench import family_page

family_page("saliency")
