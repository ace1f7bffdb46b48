"""Descriptions of the networks that this project knows, one file each."""

from subpixel.networks.espcn import espcn
from subpixel.networks.srcnn import srcnn

__all__ = ["espcn", "srcnn"]
