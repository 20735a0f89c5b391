"""The version, told once: the package, its wheel and every run's record read it here."""

__version__ = "0.2.0"
