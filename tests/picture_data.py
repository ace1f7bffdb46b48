"""Print digests of what becomes of images and videos: `python picture_data.py FOLDER OUT`, as JSON.

`FOLDER` is that of `write_inputs`. Run in processes that are held to other instructions of the processor, by
the environment of each library. FFmpeg has no variable for it: ``PICTURE_DATA_FFMPEG=0`` stands for none.
"""

import ctypes
import hashlib
import json
import os
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

RATE = Fraction(1, 25)
INT8 = {"engine": os.environ.get("PICTURE_DATA_ENGINE", "auto"), "precision": "int8", "model": "fast"}


def photo(height, width, channels, seed):
    """Waves, edges, noise and a flat area, ``(H, W, C)``, uint8."""
    y, x = np.mgrid[:height, :width]
    waves = [60 * np.sin(x / (5 + c) + y / 9 + c) + 40 * ((x // 17 + y // 13) % 2) for c in range(channels)]
    image = 110 + np.stack(waves, -1) + np.random.default_rng(seed).normal(0, 6, (height, width, channels))
    image[height // 3 : height // 2, width // 4 : width // 2] = 200
    return np.clip(image, 0, 255).astype(np.uint8)


def frames(format, count=3, width=200, height=120):
    """Frames of a moving pattern."""
    for number in range(count):
        image = photo(height, width + 40, 3, number)[:, 4 * number : 4 * number + width]
        frame = av.VideoFrame.from_ndarray(image.astype(np.uint16) * 257, format="rgb48le")
        yield frame.reformat(format=format, dst_colorspace=1) if format != "rgb48le" else frame


def write_inputs(folder):
    """Write the images and videos to upscale."""
    from interlaced_files import interlaced, marked, telecined
    from video_files import write

    rgb, alpha = photo(70, 90, 3, 0), photo(70, 90, 1, 1)
    Image.fromarray(rgb).save(folder / "rgb.png")
    Image.fromarray(rgb).save(folder / "rgb.jpg", quality=80)
    Image.fromarray(np.concatenate([rgb, np.clip(alpha * 2.0 - 150, 0, 255).astype(np.uint8)], -1)).save(
        folder / "rgba.png"
    )
    Image.fromarray(alpha[..., 0].astype(np.uint16) * 257).save(folder / "gray16.png")
    animation = [Image.fromarray(photo(50, 60, 3, number)) for number in range(2)]
    animation[0].save(folder / "animation.webp", append_images=animation[1:], save_all=True, lossless=True)
    for format in ("yuv420p", "nv12", "bgr0", "yuv420p10le", "rgb48le"):
        write(folder / f"{format}.nut", frames(format), codec="rawvideo", time_base=RATE)
    fields = marked(interlaced(list(frames("yuv420p", 6))))
    write(folder / "interlaced.nut", fields, codec="ffv1", time_base=RATE)
    film, rate = telecined(list(frames("yuv420p", 8))), Fraction(30000, 1001)
    write(folder / "telecined.nut", film, codec="ffv1", rate=rate, time_base=1 / rate)
    for codec, name in (("mpeg2video", "mpeg2.ts"), ("mpeg4", "mpeg4.avi"), ("libx264", "h264.mp4")):
        write(folder / name, frames("yuv420p"), codec=codec, time_base=RATE)


def hold_ffmpeg(flags):
    """Let FFmpeg use only some instructions: 0 for none."""
    loaded = Path("/proc/self/maps").read_text().split()
    ctypes.CDLL(next(path for path in loaded if "libavutil" in path)).av_force_cpu_flags(flags)


IMAGES = {
    "x2": ("rgb.png", {"scale": 2}),
    "x3 of a JPEG": ("rgb.jpg", {"scale": 3}),
    "a reduction": ("rgb.png", {"scale": 1.7}),
    "only a reduction": ("rgb.png", {"width": 41}),
    "alpha, reduced": ("rgba.png", {"scale": 1.5}),
    "16 bits": ("gray16.png", {"scale": 2}),
    "16 bits, reduced": ("gray16.png", {"scale": 1.5}),
    "sharpened": ("rgb.png", {"scale": 1.7, "sharpness": 0.6}),
    "pixel art": ("rgba.png", {"scale": 2.5, "model": "epx", "engine": "auto", "precision": "auto"}),
    "palette": ("animation.webp", {"scale": 2}),
}
VIDEOS = {
    "4:2:0": ("yuv420p.nut", {"scale": 2}),
    "4:2:0, reduced": ("yuv420p.nut", {"scale": 1.5}),
    "interleaved chroma": ("nv12.nut", {"scale": 2}),
    "RGB": ("bgr0.nut", {"scale": 2}),
    "10 bits": ("yuv420p10le.nut", {"scale": 2}),
    "16-bit RGB": ("rgb48le.nut", {"scale": 2}),
    "sharpened": ("yuv420p.nut", {"scale": 1.7, "sharpness": 0.5}),
    "grain": ("yuv420p.nut", {"scale": 2, "grain": 1.0}),
    "frames of fields": ("interlaced.nut", {"scale": 2, "deinterlace": "fields"}),
    "inverse telecine": ("telecined.nut", {"scale": 2, "inverse_telecine": True}),
    "MPEG-2": ("mpeg2.ts", {"scale": 2}),
    "MPEG-4": ("mpeg4.avi", {"scale": 2}),
    "H.264": ("h264.mp4", {"scale": 2}),
}


def digest_of_image(path):
    with Image.open(path) as image:
        pages = []
        for number in range(getattr(image, "n_frames", 1)):
            image.seek(number)
            pages.append(np.asarray(image if image.mode != "P" else image.convert("RGB")).tobytes())
    return hashlib.sha256(b"".join(pages)).hexdigest()


def digest_of_video(path):
    with av.open(str(path)) as video:
        planes = [bytes(plane) for frame in video.decode(video=0) for plane in frame.planes]
    return hashlib.sha256(b"".join(planes)).hexdigest()


def main(folder, out):
    if flags := os.environ.get("PICTURE_DATA_FFMPEG"):
        hold_ffmpeg(int(flags))
    import subpixel

    digests = {}
    for name, (source, options) in IMAGES.items():
        path = out / ("image.gif" if name == "palette" else "image.png")
        subpixel.upscale_image(folder / source, path, overwrite=True, **(INT8 | options))
        digests[f"image, {name}"] = digest_of_image(path)
    for name, (source, options) in VIDEOS.items():
        path = out / "video.mkv"
        subpixel.upscale_video(folder / source, path, codec="ffv1", overwrite=True, **(INT8 | options))
        digests[f"video, {name}"] = digest_of_video(path)
    print(json.dumps(digests))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
