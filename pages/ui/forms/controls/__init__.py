"""The controls of forms: one for each widget that a kind of option asks for. A new file here is found by itself."""
