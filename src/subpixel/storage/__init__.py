"""Folders that several processes and machines share: on a file system, or a prefix in a bucket."""
