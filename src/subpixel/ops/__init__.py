"""The mathematical operations, in NumPy: pixel shuffle, resizing, color, convolution."""
