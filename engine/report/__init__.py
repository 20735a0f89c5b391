"""Reports: a run as one HTML file, what is told of its record, and the command that repeats it."""
