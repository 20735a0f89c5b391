"""Runs: what is recorded of one, what a request comes to, how it is executed, and what it will take."""
