"""Training: from a configuration and folders of pictures to a `Model`. Needs the extra ``subpixel[train]``."""
