"""Which storage a location means."""

import os

from subpixel.storage.base import Storage
from subpixel.storage.local import LocalStorage
from subpixel.storage.paths import ObjectPath, locate


def open_storage(location: str | os.PathLike[str]) -> Storage:
    """Return the storage at a path or an ``s3://`` URL. The folder is created with its first file."""
    found = locate(location)
    if isinstance(found, ObjectPath):
        from subpixel.storage.objects import ObjectStorage

        return ObjectStorage(found)
    return LocalStorage(found)
