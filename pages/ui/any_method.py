"""The page of a family, or of a method alone, that has no file of its own in `pages/`."""

from fovea.pages.ui.nav import methods_here
from fovea.pages.ui.workbench import workbench

workbench(*methods_here())
