"""What each unit of a layer sees of the input, found by running coordinates in place of pixels."""
