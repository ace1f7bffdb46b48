"""Engines: each compiles a model into a function from a small plane to a large one."""
