"""Reads and writes video files: streams, times, codecs, containers, metadata."""
