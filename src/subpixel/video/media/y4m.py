"""Writes YUV4MPEG2, which contains raw frames and nothing else."""

import io
import re
from typing import TYPE_CHECKING, BinaryIO

from subpixel.errors import EncoderError
from subpixel.video.media.codecs import Encoder
from subpixel.video.media.containers import Y4M

if TYPE_CHECKING:
    from av import Packet

    from subpixel.video.media.encoded_frame import EncodedFrame


class Y4mWriter:
    """Writes raw frames, with the interface of `Muxer`."""

    def __init__(self, target: BinaryIO, encoder: Encoder) -> None:
        """Write the header to ``target``.

        Raises `EncoderError` if the header cannot contain the pixel format.
        """
        self.max_time_error_seconds = 0.0
        """The greatest difference between a frame's time and its time at the constant frame rate."""
        self._target = target
        self._time_base, self._rate = encoder.time_base, encoder.rate
        self._first_pts: int | None = None
        self._frames = 0
        target.write(y4m_header(encoder))

    def write(self, encoded: "EncodedFrame") -> None:
        """Write one frame."""
        if self._first_pts is None:
            self._first_pts = encoded.pts
        time = (encoded.pts - self._first_pts) * self._time_base
        time_error = float(abs(time - self._frames / self._rate))
        self.max_time_error_seconds = max(self.max_time_error_seconds, time_error)
        self._frames += 1
        self._target.write(b"FRAME\n")
        self._target.write(encoded.data)

    def copy(self, packet: "Packet") -> None:
        """Do nothing: YUV4MPEG2 has no other streams."""

    def close(self) -> None:
        """Flush the target."""
        self._target.flush()


def y4m_header(encoder: Encoder) -> bytes:
    """The first line of a YUV4MPEG2 file, as FFmpeg writes it.

    Raises `EncoderError` if the header cannot contain the pixel format.
    """
    import av

    sink = io.BytesIO()
    # FFmpeg writes high bit depths and gray only with this option, as they are an extension.
    with av.open(sink, "w", format=Y4M.muxer, container_options={"strict": "-1"}) as output:
        stream = output.add_stream("wrapped_avframe", encoder.rate)
        stream.width, stream.height, stream.pix_fmt = encoder.width, encoder.height, encoder.format
        stream.codec_context.color_range = encoder.color[3]
        stream.codec_context.options = dict(encoder.options)
        frame = av.VideoFrame(encoder.width, encoder.height, encoder.format)
        frame.pts = 0
        try:
            output.mux(stream.encode(frame))
        except av.FFmpegError as error:
            raise EncoderError(
                f"YUV4MPEG2 does not support {encoder.format}; write Matroska instead"
            ) from error
    header = sink.getvalue().split(b"\n", 1)[0] + b"\n"
    if encoder.aspect:
        # FFmpeg's muxer takes it from the stream, where PyAV does not set it.
        ratio = b" A%d:%d " % encoder.aspect.as_integer_ratio()
        header = re.sub(rb" A\d+:\d+ ", ratio, header, count=1)
    return header
