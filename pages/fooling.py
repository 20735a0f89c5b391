"""Fooling images, of which a network is certain though they mean nothing; and its robustness on a data set."""

from fovea.pages.ui.workbench import family_page

family_page("fooling")
