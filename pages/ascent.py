"""Gradient ascent: an image that excites a class or a unit, drawn step by step."""

from fovea.pages.ui.workbench import family_page

ABOUT = (
    "Regularisers keep the picture natural. Without them, the picture that excites a network most is noise to a person "
    "and to other networks. GoogLeNet is sure of a goldfish that was made on it either way, but SqueezeNet sees a "
    "goldfish with a probability of 0.002 where it was made without regularisers, and of 0.999 where it was made with "
    "those of Lucid. *Second network*, under *More options*, asks another network of yours the same."
)

family_page("ascent", about=ABOUT)
