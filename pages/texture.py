"""Texture synthesis: new pictures of any size with the photo's statistics."""

from fovea.pages.ui.workbench import family_page

family_page("texture")
