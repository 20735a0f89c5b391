"""Kinds of data sets, one file each; every file ends in `SOURCE = Source(…)`."""
