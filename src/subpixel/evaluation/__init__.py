"""Measuring a network as the literature does: metrics, the protocol, and the numbers published by others."""
