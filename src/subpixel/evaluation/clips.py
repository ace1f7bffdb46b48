"""Reads clips: the luma of each frame of a video file, or of raw planar 4:2:0.

A clip is a file that FFmpeg decodes, or raw planar 8-bit 4:2:0 (``.yuv``), which does not contain the size of
its frames.
"""

import contextlib
from collections.abc import Generator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from subpixel.errors import DatasetError, InputError
from subpixel.evaluation.protocol import IMAGE_SUFFIXES, files_with_suffix, hr_folder
from subpixel.files import is_file, is_folder
from subpixel.video.media.containers import INPUT_EXTENSIONS

RAW_SUFFIX = ".yuv"
"""Extension of raw planar 8-bit 4:2:0: luma, Cb and Cr of frame after frame, and nothing else."""

CLIP_SUFFIXES = (*INPUT_EXTENSIONS, RAW_SUFFIX)
"""Extensions of clips."""


def find_clips(inputs: Sequence[Path], size: tuple[int, int] | None = None) -> list[Path]:
    """The clips among the inputs of a command: the files themselves, or the clips in one folder.

    Args:
        inputs: files, or one folder.
        size: width and height of the frames in ``.yuv`` files.

    Returns:
        The clips, in the order of ``inputs``, or sorted by name if they are from a folder. Empty if the only
        input is a folder of images, or neither a folder nor named like a clip; then `protocol.find_images`
        decides.

    Raises:
        ValueError: one of several inputs is a folder or not named like a clip, a ``.yuv`` is without a size,
            or a size without a ``.yuv``.
        DatasetError: a file does not exist, a ``.yuv`` is not a whole number of frames, or the folder
            contains neither images nor clips.
    """
    first = inputs[0]
    if len(inputs) == 1 and (is_folder(first) or first.suffix.lower() not in CLIP_SUFFIXES):
        found = _clips_of(first) if is_folder(first) else []
    else:
        found = list(inputs)
        for file in found:
            if is_folder(file):
                raise ValueError(f"{file}: is a folder; evaluate either one folder or files of clips")
            if file.suffix.lower() not in CLIP_SUFFIXES:
                raise ValueError(
                    f"{file}: not a clip, whose name ends in {', '.join(CLIP_SUFFIXES)}; "
                    "to evaluate images, name the folder that contains them"
                )
            if not is_file(file):
                raise DatasetError(f"{file}: no such file; name clips that exist")
    raw = [file for file in found if _is_raw(file)]
    if size is not None and not raw:
        raise ValueError(f"a frame size is for raw {RAW_SUFFIX} clips, and no input is one; leave it out")
    for file in raw:
        _raw_frames(file, size)
    return found


def luma_planes(file: Path, size: tuple[int, int] | None = None) -> Generator[NDArray[np.uint8], None, None]:
    """Yield the luma of each frame of a clip, ``(H, W)`` uint8 in its own range, valid until the next one.

    ``size`` is width and height of the frames of a ``.yuv``. Close the generator if you do not exhaust it.

    Raises:
        DatasetError: the clip does not exist, or is unreadable or damaged.
        ValueError: a ``.yuv`` without a size.
    """
    if _is_raw(file):
        return _raw_planes(file, size)
    return _decoded_planes(file)


def _clips_of(folder: Path) -> list[Path]:
    """The clips in a folder; empty if it contains images."""
    if files_with_suffix(folder, IMAGE_SUFFIXES):
        return []
    if not (found := files_with_suffix(folder, CLIP_SUFFIXES)):
        raise DatasetError(
            f"{hr_folder(folder)}: contains no images ({', '.join(sorted(IMAGE_SUFFIXES))}) "
            f"and no clips ({', '.join(CLIP_SUFFIXES)})"
        )
    return found


def _is_raw(file: Path) -> bool:
    return file.suffix.lower() == RAW_SUFFIX


def _raw_frames(file: Path, size: tuple[int, int] | None) -> tuple[int, int]:
    """The number of frames in a ``.yuv``, and the bytes of each."""
    if size is None:
        raise ValueError(
            f"{file}: raw video does not contain the size of its frames; give it, such as --size 640x360"
        )
    width, height = size
    # Chroma has half the sides of luma, rounded up.
    frame_bytes = width * height + 2 * (-(-width // 2) * -(-height // 2))
    try:
        length = file.stat().st_size
    except OSError as error:
        raise DatasetError(f"{file}: cannot be read ({error.strerror})") from error
    if not length or length % frame_bytes:
        raise DatasetError(
            f"{file}: its {length} bytes are not a whole number of {width}x{height} frames in 8-bit 4:2:0, "
            f"{frame_bytes} bytes each; check the size, and whether the file is complete"
        )
    return length // frame_bytes, frame_bytes


def _raw_planes(file: Path, size: tuple[int, int] | None) -> Generator[NDArray[np.uint8], None, None]:
    frames, frame_bytes = _raw_frames(file, size)
    assert size is not None
    width, height = size
    try:
        with file.open("rb") as stream:
            for _ in range(frames):
                luma = np.frombuffer(stream.read(frame_bytes), np.uint8, width * height)
                yield luma.reshape(height, width)
    except OSError as error:
        raise DatasetError(f"{file}: cannot be read ({error.strerror})") from error


def _decoded_planes(file: Path) -> Generator[NDArray[np.uint8], None, None]:
    import av
    from av.video.reformatter import VideoReformatter

    from subpixel.video.media.pixel_formats import bit_depth, plane, round_to_depth, to_planar
    from subpixel.video.media.source import is_packet, open_source

    try:
        source = open_source(file)
    except InputError as error:  # its message names the file
        raise DatasetError(f"{error}; evaluate clips that FFmpeg can decode, without this one") from error
    converter = VideoReformatter()
    with contextlib.closing(source):
        source.discard_others()
        for event in source.events():
            if is_packet(event):
                continue
            _refuse_damaged(
                file, source.decode_errors.damaged + source.decode_errors.lost, source.decode_errors.broken
            )
            try:
                frame = to_planar(event, converter, matrix="bt601")  # type: ignore[arg-type]
            except av.FFmpegError as error:
                raise DatasetError(
                    f"{file}: FFmpeg cannot convert its frames to luma ({error}); convert the clip to 4:2:0"
                ) from error
            luma = plane(frame, 0)
            if luma.dtype != np.uint8:
                # A deeper sample is the 8-bit one times a power of two, in limited range exactly.
                luma = round_to_depth(np.left_shift(luma, 16 - bit_depth(frame.format)), 8).astype(np.uint8)
            yield luma
        missing = source.decode_errors.missing
        broken = f"about {missing} frames are missing at its end" if missing else source.decode_errors.broken
        _refuse_damaged(file, source.decode_errors.damaged + source.decode_errors.lost, broken)


def _refuse_damaged(file: Path, damaged: int, broken: str) -> None:
    """Refuse frames that FFmpeg had to conceal: the mean would look like that of an intact clip."""
    if damaged or broken:
        what = broken or f"frames that could not be decoded: {damaged}"
        raise DatasetError(
            f"{file}: is damaged ({what}); evaluate an intact clip, or fewer frames of this one"
        )
