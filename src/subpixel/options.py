"""The values of options, for signatures and checks."""

from typing import Literal

EngineName = Literal["auto", "native", "onnxruntime", "numpy"]
"""The engines, fastest first; "auto" selects the first that works on this machine."""

Precision = Literal["auto", "fp32", "int8"]
"""Arithmetic of the network. "auto" is int8 with the engine "native", which needs int8 layers in the model,
and fp32 with the others."""

SourceKind = Literal["clean", "compressed", "pixel-art"]
"""Whether a source was compressed with loss, as by JPEG and video codecs, or is pixel art."""

ContentKind = Literal["auto", "clean", "compressed", "pixel-art"]
"""The same for a file; "auto" classifies the file as clean or compressed."""

PixelArtRuleName = Literal["nearest", "epx"]
"""Rules for pixel art: "nearest" repeats pixels, "epx" (Scale2x and Scale3x) also follows edges."""

ImageFormat = Literal["png", "jpeg", "webp", "tiff", "bmp", "gif", "avif", "jxl"]
"""The image formats that Subpixel writes."""

ContainerName = Literal["mp4", "mkv", "mov", "webm", "y4m"]
"""The containers that Subpixel writes."""

Wrap = Literal["x", "y", "both"]
"""The axes along which an image continues with its opposite side: "x" is from left to right, "y" from top to
bottom."""

Deinterlace = Literal["auto", "off", "frames", "fields"]
"""What happens to interlaced frames of a video. "auto" deinterlaces the frames that are marked as interlaced,
and makes one frame of each. "frames" does so with all frames, marked or not. "fields" makes a frame of each
field, which doubles the frame rate. "off" leaves all frames as they are."""

FieldOrder = Literal["auto", "top", "bottom"]
"""Which field of an interlaced frame was taken first: what the frame says, or else the top field; the top
field; the bottom field."""

MAX_SCALE = 16
"""The largest factor per side. Beyond it, no detail of the source is left to continue."""

Fit = Literal["inside", "cover", "exact"]
"""How a result fits the size that is asked for. "inside" keeps the shape and makes no side longer than asked
for, "cover" keeps the shape and makes no side shorter, "exact" changes the shape."""
