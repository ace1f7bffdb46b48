"""Metadata and side data of a video are kept, or a warning says what is lost."""

import struct

import av
import pytest
from av.sidedata.sidedata import Type

from subpixel.video.media.hdr import display_matrix, frame_side_data
from video_files import decoded, ffmpeg, insert_box, make_frames, remux, streams, write


def warnings_of(report):
    """Return the warnings, without those that most videos cause."""
    of_times = ("stores times in milliseconds", "and --start and --end count from there")
    return [warning for warning in report.warnings if not warning.endswith(of_times)]


def side_data(path, kind):
    """Return the last side data of a type of the first frame as 32-bit integers; None if there is none."""
    found = [bytes(side) for side in frame_side_data(decoded(path)[0]) if side.type == kind]
    return struct.unpack(f"={len(found[-1]) // 4}i", found[-1]) if found else None


# Projections, stereo modes and rotations


def box(name, *content):
    data = b"".join(content)
    return (8 + len(data)).to_bytes(4) + name + data


def sphere(projection, yaw=0, pitch=0, roll=0):
    """Return the box of Spherical Video V2 for a projection and a pose in degrees."""
    pose = struct.pack(">I3i", 0, *(angle << 16 for angle in (yaw, pitch, roll)))
    return box(b"sv3d", box(b"svhd", bytes(5)), box(b"proj", box(b"prhd", pose), projection))


WHOLE = box(b"equi", bytes(20))
PART = box(b"equi", struct.pack(">5I", 0, 1 << 28, 0, 1 << 30, 1 << 29))
CUBE = box(b"cbmp", struct.pack(">3I", 0, 0, 8))


@pytest.mark.parametrize("projection", [WHOLE, PART, CUBE], ids=["whole", "part", "cube"])
def test_spherical_mapping(upscale, tmp_path, projection):
    source = insert_box(write(tmp_path / "in.mp4", make_frames(3)), sphere(projection, 30, -10, 5))
    before = side_data(source, Type.SPHERICAL)
    assert before[1:4] == (30 << 16, -10 << 16, 5 << 16)
    wanted = (*before[:8], before[8] * 2)
    for extension, known in (("mkv", True), ("webm", True), ("mp4", False), ("mov", False)):
        report = upscale(source, tmp_path / f"out.{extension}")
        after = side_data(tmp_path / f"out.{extension}", Type.SPHERICAL)
        assert (after == wanted) or not known
        assert (after == wanted) != any("the spherical mapping" in warning for warning in warnings_of(report))
        assert after or extension == "mov"


def test_a_sphere_without_pose_is_kept_in_mp4(upscale, tmp_path):
    source = insert_box(write(tmp_path / "in.mp4", make_frames(3)), sphere(WHOLE))
    report = upscale(source, tmp_path / "out.mp4")
    assert side_data(tmp_path / "out.mp4", Type.SPHERICAL) == side_data(source, Type.SPHERICAL)
    assert report.warnings == ()
    assert warnings_of(upscale(source, tmp_path / "out.y4m")) == [
        "YUV4MPEG2 does not keep the spherical mapping"
    ]


@pytest.mark.parametrize(
    "mode",
    ["left_right", "right_left", "top_bottom", "bottom_top", "row_interleaved_lr", "col_interleaved_rl"],
)
def test_stereo_modes(upscale, tmp_path, mode):
    base = write(tmp_path / "base.mkv", make_frames(3))
    source = remux(base, tmp_path / "in.mkv", "-metadata:s:v", f"stereo_mode={mode}")
    assert side_data(source, Type.STEREO3D) is not None
    for extension in ("mkv", "webm"):
        report = upscale(source, tmp_path / f"out.{extension}")
        assert side_data(tmp_path / f"out.{extension}", Type.STEREO3D) == side_data(source, Type.STEREO3D)
        assert warnings_of(report) == []
    for extension in ("mp4", "mov"):
        report = upscale(source, tmp_path / f"out.{extension}")
        # x264 writes some of them into the bitstream; the container has none.
        kept = side_data(source, Type.STEREO3D) == side_data(tmp_path / f"out.{extension}", Type.STEREO3D)
        assert kept != any("the stereoscopic arrangement" in warning for warning in warnings_of(report))


def test_an_anaglyph(upscale, tmp_path):
    """FFmpeg has a tag for it, and no side data."""
    base = write(tmp_path / "base.mkv", make_frames(3))
    source = remux(base, tmp_path / "in.mkv", "-metadata:s:v", "stereo_mode=anaglyph_cyan_red")
    assert warnings_of(upscale(source, tmp_path / "out.mkv")) == []
    with av.open(str(tmp_path / "out.mkv")) as file:
        assert file.streams.video[0].metadata["stereo_mode"] == "anaglyph_cyan_red"
    assert warnings_of(upscale(source, tmp_path / "out.mp4")) == [
        "MP4 does not keep the tag stereo_mode of the video stream"
    ]


HALF = 1 << 15
WHOLE_STEP = 1 << 16
ROTATED_AND_HALVED = [0, HALF, 0, -HALF, 0, 0, 24 * WHOLE_STEP, 0, 1 << 30]


def test_a_matrix_that_rotates_and_scales(upscale, tmp_path):
    source = write(tmp_path / "in.mp4", make_frames(3), matrix=ROTATED_AND_HALVED)
    assert list(display_matrix(decoded(source)[0])) == ROTATED_AND_HALVED
    for extension in ("mp4", "mov"):
        report = upscale(source, tmp_path / f"out.{extension}")
        moved = [*ROTATED_AND_HALVED[:6], 48 * WHOLE_STEP, 0, 1 << 30]
        assert list(display_matrix(decoded(tmp_path / f"out.{extension}")[0])) == moved
        assert report.warnings == ()
    report = upscale(source, tmp_path / "out.mkv")
    assert warnings_of(report) == [
        "Matroska does not keep all of the matrix with which players rotate and scale it"
    ]


@pytest.mark.parametrize("degrees", [90, 180, -90])
def test_a_matrix_that_only_rotates(upscale, tmp_path, degrees):
    source = write(tmp_path / "in.mp4", make_frames(3), rotation=degrees)
    assert warnings_of(upscale(source, tmp_path / "out.mkv")) == []


# Transparency


@pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9"])
def test_alpha_of_vp8_and_vp9(upscale, tmp_path, codec):
    """Matroska has it next to each frame. FFmpeg does not decode it."""
    base = write(tmp_path / "base.mkv", make_frames(4, format="yuva420p"), codec="ffv1")
    source = tmp_path / "in.webm"
    ffmpeg("-i", base, "-c:v", codec, "-auto-alt-ref", "0", source)
    untagged = tmp_path / "untagged.webm"
    untagged.write_bytes(source.read_bytes().replace(bytes.fromhex("53c08101"), bytes.fromhex("ec820000")))
    for video in (source, untagged):
        assert not any(plane == "a" for plane in decoded(video)[0].format.name)
        for extension in ("mkv", "webm"):
            output = tmp_path / f"{video.stem}-out.{extension}"
            assert "its transparency is dropped" in upscale(video, output).warnings
            with av.open(str(output)) as file:
                assert "alpha_mode" not in file.streams.video[0].metadata


# Tags


def test_tags_of_matroska(upscale, tmp_path):
    base = write(tmp_path / "base.mkv", make_frames(12), sound="aac", chapters=True)
    tags = {
        "": "DIRECTOR_NOTE=only Matroska has this tag",
        ":s:v": "title=The video",
        ":s:a:0": "MINE=x",
        ":s:a:1": "language=de-CH",
        ":c:0": "MOOD=good",
    }
    options = [part for target, tag in tags.items() for part in (f"-metadata{target}", tag)]
    flags = ["-disposition:a:0", "forced+comment", "-disposition:a:1", "dub"]
    source = tmp_path / "in.mkv"
    ffmpeg("-i", base, "-i", base, "-map", "0", "-map", "1:a", "-c", "copy", *options, *flags, source)
    assert upscale(source, tmp_path / "out.mkv").warnings == ()
    assert warnings_of(upscale(source, tmp_path / "out.mp4")) == [
        "MP4 does not keep the file's tag DIRECTOR_NOTE",
        "MP4 does not keep the chapters' tag MOOD",
        "MP4 does not keep the tag MINE of stream 1 (audio, aac)",
        "MP4 does not keep the tag language of stream 2 (audio, aac)",
    ]
    report = upscale(source, tmp_path / "out.mov")
    assert "QuickTime does not keep the flag 'comment, forced' of stream 1 (audio, aac)" in report.warnings
    for extension in ("mp4", "mov"):
        with av.open(str(tmp_path / f"out.{extension}")) as file:
            assert "MINE" not in file.streams.audio[0].metadata


def test_tags_of_mp4(upscale, tmp_path):
    """MP4 has two kinds. A warning names the tags that FFmpeg does not write to MP4 or QuickTime."""
    base = write(tmp_path / "base.mp4", make_frames(4), sound="aac", metadata={"title": "A video"})
    own = {"show": "s", "network": "n", "media_type": "9", "hd_video": "1", "track": "3/12", "lyrics": "la"}
    itunes = remux(
        base,
        tmp_path / "itunes.mp4",
        *[p for key, value in own.items() for p in ("-metadata", f"{key}={value}")],
    )
    keys = [
        "-movflags",
        "use_metadata_tags",
        "-metadata",
        "com.apple.quicktime.make=Apple",
        "-metadata",
        "my.own=1",
    ]
    quicktime = remux(base, tmp_path / "quicktime.mp4", *keys)
    for source, container, lost in (
        (itunes, "mp4", set()),
        (itunes, "mkv", set()),
        (itunes, "mov", set(own)),
        (quicktime, "mp4", {"com.apple.quicktime.make", "my.own"}),
        (quicktime, "mkv", set()),
    ):
        output = tmp_path / f"{source.stem}-out.{container}"
        report = upscale(source, output)
        named = [
            warning.split(" tags ")[1]
            for warning in warnings_of(report)
            if "does not keep the file's tag" in warning
        ]
        assert {tag for tags in named for tag in tags.split(", ")} == lost
        with av.open(str(source)) as before, av.open(str(output)) as after:
            kept = {(key.lower(), value) for key, value in after.metadata.items()}
            gone = {key for key, value in before.metadata.items() if (key.lower(), value) not in kept}
        assert gone - {"major_brand", "minor_version", "compatible_brands", "encoder"} == lost


def test_losses_in_yuv4mpeg2(upscale, tmp_path):
    source = write(
        tmp_path / "in.mkv",
        make_frames(3),
        metadata={"title": "A video"},
        color_primaries=9,
        color_trc=16,
        colorspace=9,
    )
    assert warnings_of(upscale(source, tmp_path / "out.y4m")) == [
        "YUV4MPEG2 does not keep the file's tag title",
        "YUV4MPEG2 does not keep the primaries, transfer, matrix of its colors",
    ]


# Side data of frames


def write_h264_with_message(path, kind, content, frames):
    """Write a bare stream of H.264 with a message (SEI) before the frames with the numbers ``frames``."""
    data = write(path, make_frames(6), options={"slices": "1", "bf": "0"}).read_bytes()
    message = b"\0\0\0\1\x06" + bytes([kind, len(content)]) + content + b"\x80"
    units, number, result = data.split(b"\0\0\1"), 0, b""
    for unit in units:
        is_frame = unit and unit[0] & 31 in (1, 5)
        if is_frame and number in frames:
            result = result.removesuffix(b"\0") + message
        number += bool(is_frame)
        result += (b"\0\0\1" if result else b"") + unit
    path.write_bytes(result)
    return path


CAPTIONS = b"\xb5\x00\x31GA94\x03\xc1\xff\xfc\x94\x20\xff"


@pytest.mark.parametrize("first", [0, 3])
def test_closed_captions(upscale, tmp_path, first):
    """x264 keeps them, SVT-AV1 does not. They begin with the first frame, or later."""
    source = write_h264_with_message(tmp_path / "in.h264", 4, CAPTIONS, range(first, 6))
    assert [
        any(side.type == Type.A53_CC for side in frame_side_data(frame)) for frame in decoded(source)
    ] == [number >= first for number in range(6)]
    assert warnings_of(upscale(source, tmp_path / "out.mkv")) == []
    (warning,) = warnings_of(upscale(source, tmp_path / "out.webm"))
    assert "does not keep closed captions" in warning
    assert ("later frames" in warning) == (first > 0)


@pytest.mark.parametrize(
    ("message", "content", "kind", "what"),
    [
        (4, b"\xb5\x00\x31DTG1\x41\xfa", Type.AFD, "the active format (AFD)"),
        (
            148,
            struct.pack(">I2H", 3_140_000, 15_635, 16_450),
            Type.AMBIENT_VIEWING_ENVIRONMENT,
            "the ambient viewing environment",
        ),
    ],
)
def test_side_data_that_no_encoder_keeps(upscale, tmp_path, message, content, kind, what):
    source = write_h264_with_message(tmp_path / "in.h264", message, content, range(6))
    assert any(side.type == kind for side in frame_side_data(decoded(source)[0]))
    for extension, container in (("mkv", "Matroska"), ("mp4", "MP4")):
        report = upscale(source, tmp_path / f"out.{extension}")
        assert warnings_of(report) == [f"{container} does not keep {what}"]


def test_timecodes_of_mpeg2(upscale, tmp_path):
    """MPEG-2 always has timecodes; those that begin at 0 mean nothing."""
    for time, lost in (("00:00:00:00", []), ("01:02:03:04", ["timecodes in the frames"])):
        source = tmp_path / f"{time[:2]}.ts"
        base = write(tmp_path / "base.mkv", make_frames(4))
        ffmpeg("-i", base, "-c:v", "mpeg2video", "-timecode", time, source)
        report = upscale(source, tmp_path / f"{time[:2]}.mkv")
        assert warnings_of(report) == [f"Matroska does not keep {what}" for what in lost]


# Sound and programs


def test_sound_that_an_edit_list_hides(upscale, tmp_path):
    base = write(tmp_path / "base.mp4", make_frames(25), sound="aac")
    assert warnings_of(upscale(base, tmp_path / "base.mkv")) == [], "the encoder's delay causes no warning"
    source = tmp_path / "in.mp4"
    ffmpeg("-ss", "0.3", "-i", base, "-c", "copy", source)
    assert any(
        "s of sound that the input's edit list hides" in warning
        for warning in upscale(source, tmp_path / "a.mkv").warnings
    )
    assert warnings_of(upscale(source, tmp_path / "a.mp4")) == []


def test_programs(upscale, tmp_path):
    base = write(tmp_path / "base.mkv", make_frames(4))
    source = tmp_path / "in.ts"
    programs = ["-program", "title=One:st=0", "-program", "title=Two:st=1"]
    ffmpeg("-i", base, "-i", base, "-map", "0:v", "-map", "1:v", "-c", "copy", *programs, source)
    report = upscale(source, tmp_path / "out.mkv")
    assert "the programs of MPEG-TS are not kept, only their streams" in report.warnings
    assert len(streams(tmp_path / "out.mkv")) == 2


def test_names_that_are_not_utf8(upscale, tmp_path, capsys):
    """Old files have other encodings; a warning must be printable."""
    source = write(tmp_path / "in.mkv", make_frames(3), metadata={"STRaNGE_KEY": "x"})
    source.write_bytes(source.read_bytes().replace(b"STRANGE_KEY", b"STR\xe4NGE_KEY"))
    (warning,) = warnings_of(upscale(source, tmp_path / "out.mp4"))
    print(warning)
    assert capsys.readouterr().out == "MP4 does not keep the file's tag STR\\udce4NGE_KEY\n"


def test_the_full_range(upscale, tmp_path):
    """Gray has the full range by default. ProRes does not support it."""
    source = write(tmp_path / "in.mkv", make_frames(3, format="gray"), codec="ffv1")
    for codec, extension, lost in (
        ("ffv1", "mp4", []),
        ("libx264", "mp4", []),
        ("prores_ks", "mov", ["QuickTime does not keep the range of its colors"]),
    ):
        report = upscale(source, tmp_path / f"{codec}.{extension}", codec=codec)
        assert [warning for warning in warnings_of(report) if "closest" not in warning] == lost
