"""Descriptions of the networks that this project knows, one file each."""

from subpixel.networks.espcn import espcn
from subpixel.networks.srcnn import srcnn
from subpixel.networks.stack import stack

__all__ = ["espcn", "srcnn", "stack"]
