"""Write small videos for tests with PyAV, and read the packets and frames of video files."""

import subprocess
from fractions import Fraction

import av
import imageio_ffmpeg
import numpy as np

from subpixel.video.media import pixel_formats
from subpixel.video.media.codecs import normal_scheduling

RATE = 25
FONT = b"not really a font, but an attachment all the same"
SUBTITLES = [(200, 300, b"Hello"), (700, 250, b"World")]
CHAPTERS = [
    {"id": 1, "start": 0, "end": 500, "time_base": Fraction(1, 1000), "metadata": {"title": "One"}},
    {"id": 2, "start": 500, "end": 1000, "time_base": Fraction(1, 1000), "metadata": {"title": "Two"}},
]


def make_frames(count, width=64, height=48, format="yuv420p"):
    """Yield frames of a moving pattern."""
    bits = av.VideoFormat(format, width, height).components[0].bits
    for number in range(count):
        frame = av.VideoFrame(width, height, format)
        for index, plane in enumerate(frame.planes):
            dtype = np.uint8 if bits <= 8 else np.uint16
            rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size).view(dtype)
            y, x = np.mgrid[: rows.shape[0], : rows.shape[1]]
            wave = 0.5 + 0.3 * np.sin((x + 2 * number) / (3 + index)) + 0.15 * np.cos(y / 2.5)
            rows[...] = (np.clip(wave, 0, 1) * (219 if index == 0 else 224) + 16) * 2 ** (bits - 8)
        frame.pts = number
        frame.time_base = Fraction(1, RATE)
        yield frame


def frames_of(planes, format="yuv420p"):
    """Return frames with these planes of luma, in 8 bits, and a chroma that changes from frame to frame."""
    result = []
    for number, samples in enumerate(planes):
        height, width = samples.shape
        frame = av.VideoFrame(width, height, format)
        up = pixel_formats.bit_depth(frame.format) - 8
        pixel_formats.plane(frame, 0)[...] = samples.astype(pixel_formats.plane(frame, 0).dtype) << up
        for index in range(1, len(frame.planes)):
            pixel_formats.plane(frame, index)[...] = (100 + number % 50) << up
        frame.pts, frame.time_base = number, Fraction(1, 25)
        result.append(frame)
    return result


def with_decoding_times(packets, codec, frames):
    """Set the decoding times of libx265, which are random for one and two frames."""
    for packet in packets if codec == "libx265" and frames < 3 else ():
        packet.dts = packet.pts
    return packets


@normal_scheduling()
def write(
    path,
    frames,
    *,
    codec="libx264",
    options=None,
    rate=RATE,
    times=None,
    last=None,
    time_base=Fraction(1, 12800),
    sound=None,
    sound_start=0,
    subtitles=None,
    chapters=None,
    attachment=False,
    cover=None,
    rotation=None,
    matrix=None,
    metadata=None,
    container_options=None,
    **properties,
):
    """Write a video.

    Args:
        path: its extension selects the container.
        frames: of one size and format.
        codec, options, rate: of the video stream.
        times: of the frames in ``time_base``; regular by default.
        last: the duration of the last frame in ``time_base``; by default that of the others.
        sound: the name of a codec, for a tone as long as the video.
        sound_start: in seconds.
        subtitles: the name of a codec.
        chapters: whether to add `CHAPTERS`.
        attachment: whether to add `FONT`.
        cover: the name of a codec, for an attached picture.
        rotation: counter-clockwise, in degrees.
        matrix: the display matrix, in FFmpeg's layout.
        properties: of the encoder, such as ``color_trc``.
    """
    frames = list(frames)
    first = frames[0]
    with av.open(f"file:{path}", "w", container_options=container_options or {}) as output:
        output.metadata.update(metadata or {})
        if chapters:
            output.set_chapters(CHAPTERS)
        video = output.add_stream(codec, rate, options={"threads": "1", **(options or {})})
        video.width, video.height, video.pix_fmt = first.width, first.height, first.format.name
        video.codec_context.time_base = time_base
        for name, value in properties.items():
            setattr(video.codec_context, name, value)
        if rotation is not None:
            video.set_display_rotation(rotation)
        if matrix is not None:
            video.set_display_matrix(matrix)
        sound_rate = 48000 if sound == "libopus" else 44100
        voice = output.add_stream(sound, sound_rate, layout="mono") if sound else None
        if voice is not None:
            voice.metadata["language"] = "fra"
        words = output.add_mux_stream(subtitles, time_base=Fraction(1, 1000)) if subtitles else None
        picture = None
        if cover is not None:
            picture = output.add_stream(cover, 1, width=16, height=16, pix_fmt="rgb24")
            picture.disposition = 1 << 10
        if attachment:
            output.add_attachment("font.ttf", "font/ttf", FONT)
        output.start_encoding()
        if picture is not None:
            still = av.VideoFrame(16, 16, "rgb24")
            still.planes[0].update(bytes(range(256)) * 3)
            still.pts = 0
            output.mux(picture.encode(still))
            output.mux(picture.encode())
        for number, frame in enumerate(frames):
            frame.time_base = time_base
            frame.pts = round(number / rate / time_base) if times is None else times[number]
            frame.duration = round(1 / rate / time_base)
            if last is not None:
                video.codec_context.flags |= av.codec.context.Flags.frame_duration
                frame.duration = last if number == len(frames) - 1 else frame.duration
            output.mux(video.encode(frame))
        output.mux(with_decoding_times(video.encode(), codec, len(frames)))
        if voice is not None:
            last = len(frames) / rate if times is None else times[-1] * time_base
            samples = np.sin(np.arange(int(sound_rate * last)) * 0.06).astype(np.float32)
            for start in range(0, len(samples), 1024):
                piece = np.resize(samples[start : start + 1024], 1024)
                frame = av.AudioFrame.from_ndarray(piece[None], "fltp", "mono")
                frame.sample_rate, frame.time_base = sound_rate, Fraction(1, sound_rate)
                frame.pts = start + int(sound_start * sound_rate)
                output.mux(voice.encode(frame))
            output.mux(voice.encode())
        if words is not None:
            for start, lasts, text in SUBTITLES:
                data = len(text).to_bytes(2, "big") + text if subtitles == "mov_text" else text
                packet = av.Packet(data)
                packet.stream, packet.time_base = words, Fraction(1, 1000)
                packet.pts = packet.dts = start
                packet.duration = lasts
                packet.is_keyframe = True
                output.mux(packet)
    return path


def write_broadcast(path, frames, **metadata):
    """Write a video like a TV recording: MPEG-2 video with MP2 sound."""
    return write(path, frames, codec="mpeg2video", sound="mp2", time_base=Fraction(1, RATE), **metadata)


def streams(path):
    """Return type and codec of each stream, or the name of an attachment."""
    with av.open(f"file:{path}") as file:
        return [
            (
                stream.type,
                stream.codec_context.name if stream.codec_context else getattr(stream, "name", None),
            )
            for stream in file.streams
        ]


def packets(path):
    """Return data and time in seconds of each packet, for every stream except the video."""
    found = {}
    with av.open(f"file:{path}") as file:
        for packet in file.demux():
            stream = packet.stream
            if packet.size and (stream.type != "video" or stream.disposition & 1 << 10):
                metadata = (bytes(packet), (packet.pts or 0) * packet.time_base)
                found.setdefault((stream.type, stream.index), []).append(metadata)
    return [found[key] for key in sorted(found, key=lambda key: key[1])]


def decoded(path):
    """Return all decoded frames of the video stream."""
    with av.open(f"file:{path}") as file:
        return list(file.decode(video=0))


def times(path):
    """Return the presentation times of the frames, in seconds."""
    return [frame.pts * frame.time_base for frame in decoded(path)]


def luma(frame):
    """Return the luma plane of a frame, ``(H, W)``."""
    return chroma(frame, 0)


def chroma(frame, index=1):
    """Return a plane of a frame, ``(H, W)``; Cb by default."""
    plane = frame.planes[index]
    dtype = np.uint8 if frame.format.components[0].bits <= 8 else np.uint16
    return np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size).view(dtype)[:, : plane.width].copy()


def ffmpeg(*arguments):
    """Run the FFmpeg program, which is independent of PyAV, and return its stdout."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *map(str, arguments)]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True).stdout


def remux(source, target, *options):
    """Copy a file packet by packet into another container with the FFmpeg program."""
    ffmpeg("-i", source, "-c", "copy", *options, target)
    return target


def write_with_data(path, codec, tag=None):
    """Write a video with sound and, at index 2, a data stream that FFmpeg has no codec for.

    Args:
        path: its extension selects the container.
        codec: FFmpeg's name of the data format.
        tag: MP4's code for it, instead of FFmpeg's.
    """
    base = write(path.with_name("base.mkv"), make_frames(12), sound="aac")
    with av.open(f"file:{base}") as source, av.open(f"file:{path}", "w") as output:
        copies = [output.add_stream_from_template(stream, opaque=True) for stream in source.streams]
        data = output.add_data_stream(codec)
        data.time_base = Fraction(1, 1000)
        output.start_encoding()
        for number in range(4):
            packet = av.Packet(b"what a sensor saw %d" % number)
            packet.stream, packet.time_base = data, Fraction(1, 1000)
            packet.pts = packet.dts = 100 * number
            packet.duration, packet.is_keyframe = 100, True
            output.mux(packet)
        for packet in source.demux():
            if packet.size:
                packet.stream = copies[packet.stream.index]
                output.mux(packet)
    if tag is not None:
        path.write_bytes(path.read_bytes().replace(b"gpmd", tag))
    return path


def insert_box(path, box):
    """Insert a box into the sample description of an MP4's first video stream, which must be H.264."""
    data = bytearray(path.read_bytes())
    at, end = 0, len(data)
    for name, header in [(name, 8) for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl")] + [
        (b"stsd", 16),
        (b"avc1", 86),
    ]:
        while data[at + 4 : at + 8] != name:
            at += int.from_bytes(data[at : at + 4])
            assert at < end
        size = int.from_bytes(data[at : at + 4])
        data[at : at + 4] = (size + len(box)).to_bytes(4)
        end, at = at + size, at + header
    data[end:end] = box
    path.write_bytes(data)
    return path
