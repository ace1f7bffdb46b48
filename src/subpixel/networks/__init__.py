"""Descriptions of the networks that this project knows, one file each."""

from subpixel.networks.espcn import espcn

__all__ = ["espcn"]
