"""Gradient ascent: an image that excites a class or a unit, drawn step by step."""

from fovea.pages.ui.workbench import family_page

ABOUT = (
    "What regularisers are for: without any, the picture that excites a network most is noise to a person and to other "
    "networks. A goldfish made on GoogLeNet without them is one for SqueezeNet with a probability of 0.002, made with "
    "Lucid's with 0.999; GoogLeNet is sure of both. *Second network*, under *More options*, asks another network of "
    "yours the same."
)

family_page("ascent", about=ABOUT)
