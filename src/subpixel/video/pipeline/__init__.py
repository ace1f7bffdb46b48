"""The pipeline of a video job: its plan, stages, frames, encoding, segments and progress."""
