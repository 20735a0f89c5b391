"""A method's options as a form: one control for each option, found by the name of the widget that its kind asks for."""
