"""The maths: the pixel shuffle, resizing, color. NumPy alone."""
