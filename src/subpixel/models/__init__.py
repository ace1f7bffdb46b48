"""Networks as data: what they compute, their weights, files and quantization."""
