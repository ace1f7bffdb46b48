"""Engines: each compiles a model into a function that upscales planes."""
