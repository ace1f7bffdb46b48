"""Measures the speed of Subpixel's engine and of other runtimes, on the same network and plane."""
