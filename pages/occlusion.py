"""Occlusion: where the network looks, by covering the photo window by window."""

from fovea.pages.ui.workbench import family_page

family_page("occlusion")
