"""The fast engine for CPUs: a network compiled by Halide into one pipeline that keeps its rows in cache."""

from subpixel.engines.halide.engine import HalideEngine

__all__ = ["HalideEngine"]
