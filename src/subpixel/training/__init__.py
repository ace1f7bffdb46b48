"""Training: from a configuration and pictures to a `Model`. Needs the extra ``subpixel[train]``."""
