"""Video: read, upscaled frame by frame, encoded and written, in overlapping stages."""
