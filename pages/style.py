"""Style transfer: the content of one photo in the style of others."""

from fovea.pages.ui.workbench import family_page

family_page("style")
