"""Adversarial examples: how little a photo has to change for the network to fall for it."""

from fovea.pages.ui.workbench import family_page

ABOUT = (
    "This is for testing one's own networks. A network that is fooled by a change of a few grey levels has learnt "
    "something other than what a person sees, and will also err on pictures that nobody attacked. Attack a photo "
    "before you release a network: see from which layer on the photo and its altered twin differ, and whether the "
    "attack survives a JPEG or fools a second network. Compare two trainings by the smallest epsilon (the largest "
    "change of a pixel) that fools them. *Robustness*, on the page Fooling images, does this for a whole data set."
)

family_page("adversarial", about=ABOUT)
