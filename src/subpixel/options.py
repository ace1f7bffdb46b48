"""The values that options take, for signatures and checks."""

from typing import Literal

EngineName = Literal["auto", "halide", "onnxruntime", "numpy"]
"""Engines, the fastest first; "auto" is the first that works here."""

Precision = Literal["auto", "fp32", "int8"]
"""Arithmetic of the network; "auto" is int8 for 8-bit samples where the engine is fast in it, else fp32."""

SourceKind = Literal["clean", "compressed"]
"""What happened to a source before: nothing, or lossy compression as by JPEG and video codecs."""

ContentKind = Literal["auto", "clean", "compressed"]
"""The same for files, where "auto" lets the file decide."""

ImageFormat = Literal["png", "jpeg", "webp", "tiff", "bmp"]
"""Image files that are written."""

ContainerName = Literal["mp4", "mkv", "mov", "webm", "y4m"]
"""Video files that are written."""
