"""Nearest neighbours: what the network takes for alike, by features and by pixels, and a data set as a map."""

from fovea.pages.ui.workbench import family_page

family_page("neighbors")
