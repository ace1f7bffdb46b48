"""Networks as data: specs, weights, model files and quantization."""
