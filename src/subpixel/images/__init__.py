"""Still images: read, upscale, write."""
