"""What happens to frames: stages, segments, progress."""
