"""Training: makes a `Model` from a config and images. Needs the extra ``subpixel[train]``."""
