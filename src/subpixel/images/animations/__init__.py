"""Animated GIF, PNG (APNG) and WebP."""
