"""Compare: every map of one photo side by side, and how far each can be trusted."""

from fovea.pages.ui.workbench import family_page

family_page("compare")
