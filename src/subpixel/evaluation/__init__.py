"""Measures the quality of networks as the literature does: metrics, protocol, and published numbers."""
