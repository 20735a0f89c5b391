"""Occlusion: where the network looks, by covering the photo window by window."""

from pages.ui.workbench import workbench

workbench("occlusion")
