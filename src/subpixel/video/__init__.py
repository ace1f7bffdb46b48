"""Upscale videos: decode, upscale each frame, encode and write, in overlapping stages."""
