"""The protocol on video, frame by frame: from HR clips to luma PSNR, as in the ESPCN paper's tables 3 and 4.

A clip is a file that FFmpeg decodes, or raw planar 8-bit 4:2:0 (``.yuv``), which does not tell how large its
frames are. HR is the luma of each frame as it is decoded, in whichever range; luma of more than 8 bits is
rounded to 8. All else is as for pictures, see `subpixel.evaluation.protocol`.
"""

import contextlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from subpixel.errors import DatasetError, InputError, naming
from subpixel.evaluation.metrics import psnr_db
from subpixel.evaluation.protocol import (
    SUFFIXES,
    Degradation,
    UpscaleLuma,
    bicubic,
    crop_to_multiple,
    files_of,
    home_of,
    lr_plane,
    super_resolved,
)
from subpixel.files import is_file, is_folder
from subpixel.video.media.containers import INPUT_EXTENSIONS

RAW_SUFFIX = ".yuv"
"""Of raw planar 8-bit 4:2:0: luma, Cb and Cr of frame after frame, and nothing else."""

CLIP_SUFFIXES = (*INPUT_EXTENSIONS, RAW_SUFFIX)
"""Which files are clips."""


@dataclass(frozen=True)
class ClipScores:
    """What one clip came to, or the mean over several: the mean over the frames of their PSNR in dB."""

    name: str
    frames: int
    psnr_db: float
    bicubic_psnr_db: float


def find_clips(inputs: Sequence[Path], size: tuple[int, int] | None = None) -> list[Path]:
    """The clips that people mean: those they name, or those of the one folder that they name.

    Args:
        inputs: files, or one folder.
        size: width and height of frames in ``.yuv`` files.

    Returns:
        The clips, in the order of ``inputs`` or, of a folder, sorted by name. None where the one input holds
        pictures, or is neither a folder nor named as a clip: that is for `protocol.pictures` to judge.

    Raises:
        ValueError: a folder among several inputs, a file that is no clip by its name, a ``.yuv`` without a
            size, or a size without a ``.yuv``.
        DatasetError: a file is missing, a ``.yuv`` is not a whole number of frames, or the folder holds
            neither pictures nor clips.
    """
    first = inputs[0]
    if len(inputs) == 1 and (is_folder(first) or first.suffix.lower() not in CLIP_SUFFIXES):
        found = _clips_of(first) if is_folder(first) else []
    else:
        found = list(inputs)
        for file in found:
            if is_folder(file):
                raise ValueError(f"{file}: is a folder; evaluate one folder alone, or files of clips")
            if file.suffix.lower() not in CLIP_SUFFIXES:
                raise ValueError(
                    f"{file}: is no clip by its name ({', '.join(CLIP_SUFFIXES)}); "
                    "of pictures, give the folder that holds them"
                )
            if not is_file(file):
                raise DatasetError(f"{file}: no such file; name clips that are there")
    raw = [file for file in found if _is_raw(file)]
    if size is not None and not raw:
        raise ValueError(f"a frame size is for raw {RAW_SUFFIX} clips, and there is none")
    for file in raw:
        _raw_frames(file, size)
    return found


def evaluate_clip(
    file: Path,
    upscale: UpscaleLuma,
    scale: int,
    degradation: Degradation,
    *,
    size: tuple[int, int] | None = None,
    frames: int | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> ClipScores:
    """Degrade each frame of a clip, enlarge it again by ``upscale`` and by bicubic, and compare.

    Args:
        file: the clip.
        upscale: the model.
        scale: its factor; also the border in HR pixels that is left out.
        degradation: how LR is made.
        size: width and height of the frames, for a ``.yuv``.
        frames: how many to take from the start; all by default, and where there are fewer.
        progress: told after each frame how many are done.

    Returns:
        The mean over the frames; infinity where any frame comes back exactly, as a black one does.

    Raises:
        DatasetError: the clip is missing, unreadable, damaged or too small.
        ValueError: a ``.yuv`` without a size, or the model makes a wrong shape or dtype.
    """
    baseline = bicubic(scale)
    scores = []
    with naming(str(file)), contextlib.closing(luma_planes(file, size)) as planes:
        for luma in islice(planes, frames):
            hr = crop_to_multiple(luma, scale)
            if min(hr.shape) <= 2 * scale:
                height, width = luma.shape
                raise DatasetError(
                    f"{file}: frames of {width}x{height} are too small to evaluate x{scale}; "
                    f"take a clip of at least {3 * scale}x{3 * scale}"
                )
            lr = lr_plane(hr, scale, degradation)
            scores.append(
                [psnr_db(hr, super_resolved(lr, way, scale), shave=scale) for way in (upscale, baseline)]
            )
            progress(len(scores))
    model_db, bicubic_db = np.mean(scores, axis=0)
    return ClipScores(file.name, len(scores), float(model_db), float(bicubic_db))


def mean(clips: Sequence[ClipScores]) -> ClipScores:
    """The mean of the clips' dB, each clip counting alike however long it is, and the sum of their frames."""
    return ClipScores(
        "mean",
        sum(clip.frames for clip in clips),
        float(np.mean([clip.psnr_db for clip in clips])),
        float(np.mean([clip.bicubic_psnr_db for clip in clips])),
    )


def luma_planes(file: Path, size: tuple[int, int] | None = None) -> Generator[NDArray[np.uint8], None, None]:
    """The luma of each frame of a clip, ``(H, W)``, uint8, in the range that it has; valid until the next.

    ``size`` is width and height, and needed for a ``.yuv`` alone. To be closed, unless it is read to its end.
    Raises as `evaluate_clip` does.
    """
    if _is_raw(file):
        return _raw_planes(file, size)
    return _decoded_planes(file)


def _clips_of(folder: Path) -> list[Path]:
    """The clips of a folder without pictures."""
    if files_of(folder, SUFFIXES):
        return []
    if not (found := files_of(folder, CLIP_SUFFIXES)):
        raise DatasetError(
            f"{home_of(folder)}: holds no pictures ({', '.join(sorted(SUFFIXES))}) "
            f"and no clips ({', '.join(CLIP_SUFFIXES)})"
        )
    return found


def _is_raw(file: Path) -> bool:
    return file.suffix.lower() == RAW_SUFFIX


def _raw_frames(file: Path, size: tuple[int, int] | None) -> tuple[int, int]:
    """How many frames a ``.yuv`` holds, and how many bytes each has."""
    if size is None:
        raise ValueError(
            f"{file}: raw video does not tell the size of its frames; give it, such as --size 640x360"
        )
    width, height = size
    # An odd side has half a sample of chroma more.
    frame = width * height + 2 * (-(-width // 2) * -(-height // 2))
    try:
        length = file.stat().st_size
    except OSError as error:
        raise DatasetError(f"{file}: cannot be read ({error.strerror})") from error
    if not length or length % frame:
        raise DatasetError(
            f"{file}: its {length} bytes are not a whole number of {width}x{height} frames in 8-bit 4:2:0, "
            f"{frame} bytes each; check the size, and that the file is whole"
        )
    return length // frame, frame


def _raw_planes(file: Path, size: tuple[int, int] | None) -> Generator[NDArray[np.uint8], None, None]:
    frames, frame = _raw_frames(file, size)
    assert size is not None
    width, height = size
    try:
        with file.open("rb") as stream:
            for _ in range(frames):
                luma = np.frombuffer(stream.read(frame), np.uint8, width * height)
                yield luma.reshape(height, width)
    except OSError as error:
        raise DatasetError(f"{file}: cannot be read ({error.strerror})") from error


def _decoded_planes(file: Path) -> Generator[NDArray[np.uint8], None, None]:
    import av
    from av.video.reformatter import VideoReformatter

    from subpixel.video.media.source import is_packet, open_source
    from subpixel.video.pipeline.frames import bits, in_planes, plane, rounded

    try:
        source = open_source(file)
    except InputError as error:  # its message names the file
        raise DatasetError(
            f"{error}; evaluate clips that FFmpeg can decode, or leave this one out"
        ) from error
    converter = VideoReformatter()
    with contextlib.closing(source):
        source.only_video()
        for event in source.events():
            if is_packet(event):
                continue
            _check_whole(
                file, source.decode_errors.damaged + source.decode_errors.lost, source.decode_errors.broken
            )
            try:
                frame = in_planes(event, converter, matrix="bt601")  # type: ignore[arg-type]
            except av.FFmpegError as error:
                raise DatasetError(
                    f"{file}: FFmpeg makes no luma of its frames ({error}); convert the clip to 4:2:0"
                ) from error
            luma = plane(frame, 0)
            if luma.dtype != np.uint8:
                # Levels of more bits are those of 8 times a power of two, in the limited range exactly so.
                luma = rounded(np.left_shift(luma, 16 - bits(frame.format)), 8).astype(np.uint8)
            yield luma
        missing = source.decode_errors.missing
        broken = f"about {missing} frames are missing at its end" if missing else source.decode_errors.broken
        _check_whole(file, source.decode_errors.damaged + source.decode_errors.lost, broken)


def _check_whole(file: Path, damaged: int, broken: str) -> None:
    """Refuse what FFmpeg had to conceal: a mean over the rest would pass for the clip's."""
    if damaged or broken:
        what = broken or f"frames that could not be decoded: {damaged}"
        raise DatasetError(f"{file}: is damaged ({what}); take a clip that is whole, or fewer of its frames")
