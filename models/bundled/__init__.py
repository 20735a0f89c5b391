"""The network that Fovea brings along: its architecture, weights and classes, and the scripts that trained it."""

NAME = "fovea"
