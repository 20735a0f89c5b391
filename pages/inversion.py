"""Feature inversion: the photo as layers from shallow to deep remember it."""

from fovea.pages.ui.workbench import family_page

family_page("inversion")
