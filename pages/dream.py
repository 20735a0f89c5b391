"""DeepDream: what layers see in a photo, made stronger from coarse to fine."""

from fovea.pages.ui.workbench import family_page

family_page("dream")
