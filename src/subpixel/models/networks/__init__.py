"""Specs of known networks, one file each."""

from subpixel.models.networks.espcn import espcn
from subpixel.models.networks.srcnn import srcnn
from subpixel.models.networks.stack import stack

__all__ = ["espcn", "srcnn", "stack"]
