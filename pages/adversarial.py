"""Adversarial examples: how little a photo has to change for the network to fall for it."""

from fovea.pages.ui.workbench import family_page

ABOUT = (
    "This is for testing one's own networks. A network that a change of a few grey levels leads astray has learnt "
    "something other than what a person sees, and will err on pictures that nobody attacked, too. Attack a photo "
    "before a network goes out, see at which depth photo and twin part, whether the attack survives a JPEG or fools "
    "a second network, and compare two trainings by the smallest epsilon that works. *Robustness*, on the page "
    "Fooling images, does it for a whole data set."
)

family_page("adversarial", about=ABOUT)
