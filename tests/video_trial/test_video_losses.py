"""What an output has not of its input is told: each thing that films say of themselves is kept, or named."""

import struct

import av
import pytest
from av.sidedata.sidedata import Type

from subpixel.video.media.hdr import attached, display_matrix
from video_files import decoded, ffmpeg, insert_box, pictures, remuxed, streams, write


def told(report):
    """The notices, but for what is said of any film."""
    of_times = ("keeps times to the millisecond", "and a part is counted from there")
    return [notice for notice in report.warnings if not notice.endswith(of_times)]


def carried(path, kind):
    """What FFmpeg reads last of the first frame, as numbers of 32 bits; None where there is nothing."""
    found = [bytes(side) for side in attached(decoded(path)[0]) if side.type == kind]
    return struct.unpack(f"={len(found[-1]) // 4}i", found[-1]) if found else None


# The picture in space


def box(name, *content):
    data = b"".join(content)
    return (8 + len(data)).to_bytes(4) + name + data


def sphere(projection, yaw=0, pitch=0, roll=0):
    """Spherical Video V2, in degrees."""
    pose = struct.pack(">I3i", 0, *(angle << 16 for angle in (yaw, pitch, roll)))
    return box(b"sv3d", box(b"svhd", bytes(5)), box(b"proj", box(b"prhd", pose), projection))


WHOLE = box(b"equi", bytes(20))
PART = box(b"equi", struct.pack(">5I", 0, 1 << 28, 0, 1 << 30, 1 << 29))
CUBE = box(b"cbmp", struct.pack(">3I", 0, 0, 8))


@pytest.mark.parametrize("projection", [WHOLE, PART, CUBE], ids=["whole", "part", "cube"])
def test_spherical_mapping(upscale, tmp_path, projection):
    source = insert_box(write(tmp_path / "in.mp4", pictures(3)), sphere(projection, 30, -10, 5))
    before = carried(source, Type.SPHERICAL)
    assert before[1:4] == (30 << 16, -10 << 16, 5 << 16)
    wanted = (*before[:8], before[8] * 2)
    for extension, known in (("mkv", True), ("webm", True), ("mp4", False), ("mov", False)):
        report = upscale(source, tmp_path / f"out.{extension}")
        after = carried(tmp_path / f"out.{extension}", Type.SPHERICAL)
        assert (after == wanted) or not known
        assert (after == wanted) != any("the spherical mapping" in notice for notice in told(report))
        assert after or extension == "mov"


def test_a_sphere_as_it_lies_is_kept_in_mp4(upscale, tmp_path):
    source = insert_box(write(tmp_path / "in.mp4", pictures(3)), sphere(WHOLE))
    report = upscale(source, tmp_path / "out.mp4")
    assert carried(tmp_path / "out.mp4", Type.SPHERICAL) == carried(source, Type.SPHERICAL)
    assert report.warnings == ()
    assert told(upscale(source, tmp_path / "out.y4m")) == ["YUV4MPEG2 does not keep the spherical mapping"]


@pytest.mark.parametrize(
    "mode",
    ["left_right", "right_left", "top_bottom", "bottom_top", "row_interleaved_lr", "col_interleaved_rl"],
)
def test_pictures_for_two_eyes(upscale, tmp_path, mode):
    made = write(tmp_path / "made.mkv", pictures(3))
    source = remuxed(made, tmp_path / "in.mkv", "-metadata:s:v", f"stereo_mode={mode}")
    assert carried(source, Type.STEREO3D) is not None
    for extension in ("mkv", "webm"):
        report = upscale(source, tmp_path / f"out.{extension}")
        assert carried(tmp_path / f"out.{extension}", Type.STEREO3D) == carried(source, Type.STEREO3D)
        assert told(report) == []
    for extension in ("mp4", "mov"):
        report = upscale(source, tmp_path / f"out.{extension}")
        # x264 writes some of them into the stream itself, beside what the container says.
        kept = carried(source, Type.STEREO3D) == carried(tmp_path / f"out.{extension}", Type.STEREO3D)
        assert kept != any("the stereoscopic arrangement" in notice for notice in told(report))


def test_an_anaglyph(upscale, tmp_path):
    """Which FFmpeg knows by its name alone."""
    made = write(tmp_path / "made.mkv", pictures(3))
    source = remuxed(made, tmp_path / "in.mkv", "-metadata:s:v", "stereo_mode=anaglyph_cyan_red")
    assert told(upscale(source, tmp_path / "out.mkv")) == []
    with av.open(str(tmp_path / "out.mkv")) as file:
        assert file.streams.video[0].metadata["stereo_mode"] == "anaglyph_cyan_red"
    assert told(upscale(source, tmp_path / "out.mp4")) == [
        "MP4 does not keep the tag stereo_mode of the picture"
    ]


HALF = 1 << 15
WHOLE_STEP = 1 << 16
TURNED_AND_HALVED = [0, HALF, 0, -HALF, 0, 0, 24 * WHOLE_STEP, 0, 1 << 30]


def test_a_matrix_that_turns_and_scales(upscale, tmp_path):
    source = write(tmp_path / "in.mp4", pictures(3), matrix=TURNED_AND_HALVED)
    assert list(display_matrix(decoded(source)[0])) == TURNED_AND_HALVED
    for extension in ("mp4", "mov"):
        report = upscale(source, tmp_path / f"out.{extension}")
        moved = [*TURNED_AND_HALVED[:6], 48 * WHOLE_STEP, 0, 1 << 30]
        assert list(display_matrix(decoded(tmp_path / f"out.{extension}")[0])) == moved
        assert report.warnings == ()
    report = upscale(source, tmp_path / "out.mkv")
    assert told(report) == ["Matroska does not keep all of the matrix by which players turn and scale it"]


@pytest.mark.parametrize("degrees", [90, 180, -90])
def test_a_matrix_that_only_turns(upscale, tmp_path, degrees):
    source = write(tmp_path / "in.mp4", pictures(3), rotation=degrees)
    assert told(upscale(source, tmp_path / "out.mkv")) == []


# Transparency


@pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9"])
def test_alpha_beside_the_picture(upscale, tmp_path, codec):
    """FFmpeg gives frames without it; Matroska has it beside each."""
    made = write(tmp_path / "made.mkv", pictures(4, format="yuva420p"), codec="ffv1")
    source = tmp_path / "in.webm"
    ffmpeg("-i", made, "-c:v", codec, "-auto-alt-ref", "0", source)
    unsaid = tmp_path / "unsaid.webm"
    unsaid.write_bytes(source.read_bytes().replace(bytes.fromhex("53c08101"), bytes.fromhex("ec820000")))
    for film in (source, unsaid):
        assert not any(plane == "a" for plane in decoded(film)[0].format.name)
        for extension in ("mkv", "webm"):
            output = tmp_path / f"{film.stem}-out.{extension}"
            assert "its transparency is left out" in upscale(film, output).warnings
            with av.open(str(output)) as file:
                assert "alpha_mode" not in file.streams.video[0].metadata


# Tags


def test_tags_of_matroska(upscale, tmp_path):
    made = write(tmp_path / "made.mkv", pictures(12), sound="aac", chapters=True)
    tags = {
        "": "DIRECTOR_NOTE=what only Matroska has",
        ":s:v": "title=The picture",
        ":s:a:0": "MINE=x",
        ":s:a:1": "language=de-CH",
        ":c:0": "MOOD=good",
    }
    options = [part for place, tag in tags.items() for part in (f"-metadata{place}", tag)]
    marks = ["-disposition:a:0", "forced+comment", "-disposition:a:1", "dub"]
    source = tmp_path / "in.mkv"
    ffmpeg("-i", made, "-i", made, "-map", "0", "-map", "1:a", "-c", "copy", *options, *marks, source)
    assert upscale(source, tmp_path / "out.mkv").warnings == ()
    assert told(upscale(source, tmp_path / "out.mp4")) == [
        "MP4 does not keep the film's tag DIRECTOR_NOTE",
        "MP4 does not keep the chapters' tag MOOD",
        "MP4 does not keep the tag MINE of stream 1 (audio, aac)",
        "MP4 does not keep the tag language of stream 2 (audio, aac)",
    ]
    report = upscale(source, tmp_path / "out.mov")
    assert "QuickTime does not keep the mark 'comment, forced' of stream 1 (audio, aac)" in report.warnings
    for extension in ("mp4", "mov"):
        with av.open(str(tmp_path / f"out.{extension}")) as file:
            assert "MINE" not in file.streams.audio[0].metadata


def test_tags_of_mp4(upscale, tmp_path):
    """Its two kinds of them; what neither MP4 nor QuickTime gets back from FFmpeg is told."""
    made = write(tmp_path / "made.mp4", pictures(4), sound="aac", metadata={"title": "A film"})
    own = {"show": "s", "network": "n", "media_type": "9", "hd_video": "1", "track": "3/12", "lyrics": "la"}
    itunes = remuxed(
        made,
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
    quicktime = remuxed(made, tmp_path / "quicktime.mp4", *keys)
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
            notice.split(" tags ")[1] for notice in told(report) if "does not keep the film's tag" in notice
        ]
        assert {tag for tags in named for tag in tags.split(", ")} == lost
        with av.open(str(source)) as before, av.open(str(output)) as after:
            kept = {(key.lower(), value) for key, value in after.metadata.items()}
            gone = {key for key, value in before.metadata.items() if (key.lower(), value) not in kept}
        assert gone - {"major_brand", "minor_version", "compatible_brands", "encoder"} == lost


def test_what_a_picture_alone_cannot_say(upscale, tmp_path):
    source = write(
        tmp_path / "in.mkv",
        pictures(3),
        metadata={"title": "A film"},
        color_primaries=9,
        color_trc=16,
        colorspace=9,
    )
    assert told(upscale(source, tmp_path / "out.y4m")) == [
        "YUV4MPEG2 does not keep the film's tag title",
        "YUV4MPEG2 does not keep the primaries, transfer, matrix of its colors",
    ]


# What frames carry


def h264_with(path, kind, content, frames):
    """A bare stream of H.264 with a message (SEI) before the frames whose numbers are in ``frames``."""
    data = write(path, pictures(6), options={"slices": "1", "bf": "0"}).read_bytes()
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
def test_closed_captions_that_an_encoder_does_not_write(upscale, tmp_path, first):
    """From the first frame on, or only later."""
    source = h264_with(tmp_path / "in.h264", 4, CAPTIONS, range(first, 6))
    assert [any(side.type == Type.A53_CC for side in attached(frame)) for frame in decoded(source)] == [
        number >= first for number in range(6)
    ]
    assert told(upscale(source, tmp_path / "out.mkv")) == []
    (notice,) = told(upscale(source, tmp_path / "out.webm"))
    assert "does not keep closed captions" in notice
    assert ("later frames" in notice) == (first > 0)


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
def test_what_no_encoder_writes(upscale, tmp_path, message, content, kind, what):
    source = h264_with(tmp_path / "in.h264", message, content, range(6))
    assert any(side.type == kind for side in attached(decoded(source)[0]))
    for extension, container in (("mkv", "Matroska"), ("mp4", "MP4")):
        report = upscale(source, tmp_path / f"out.{extension}")
        assert told(report) == [f"{container} does not keep {what}"]


def test_timecodes_of_mpeg(upscale, tmp_path):
    """In the frames of MPEG-2 there always is one; from 0 it says nothing."""
    for time, lost in (("00:00:00:00", []), ("01:02:03:04", ["timecodes in the frames"])):
        source = tmp_path / f"{time[:2]}.ts"
        made = write(tmp_path / "made.mkv", pictures(4))
        ffmpeg("-i", made, "-c:v", "mpeg2video", "-timecode", time, source)
        report = upscale(source, tmp_path / f"{time[:2]}.mkv")
        assert told(report) == [f"Matroska does not keep {what}" for what in lost]


# Sound and programs


def test_sound_that_an_edit_list_hides(upscale, tmp_path):
    made = write(tmp_path / "made.mp4", pictures(25), sound="aac")
    assert told(upscale(made, tmp_path / "made.mkv")) == [], "an encoder's delay is not worth a word"
    source = tmp_path / "in.mp4"
    ffmpeg("-ss", "0.3", "-i", made, "-c", "copy", source)
    assert any(
        "s of sound that the input's edit list hides" in n
        for n in upscale(source, tmp_path / "a.mkv").warnings
    )
    assert told(upscale(source, tmp_path / "a.mp4")) == []


def test_programs(upscale, tmp_path):
    made = write(tmp_path / "made.mkv", pictures(4))
    source = tmp_path / "in.ts"
    programs = ["-program", "title=One:st=0", "-program", "title=Two:st=1"]
    ffmpeg("-i", made, "-i", made, "-map", "0:v", "-map", "1:v", "-c", "copy", *programs, source)
    report = upscale(source, tmp_path / "out.mkv")
    assert "which stream belongs to which program of MPEG-TS is not kept" in report.warnings
    assert len(streams(tmp_path / "out.mkv")) == 2


def test_names_that_are_no_text(upscale, tmp_path, capsys):
    """Bytes of another encoding, as old files have them, can be printed."""
    source = write(tmp_path / "in.mkv", pictures(3), metadata={"STRaNGE_KEY": "x"})
    source.write_bytes(source.read_bytes().replace(b"STRANGE_KEY", b"STR\xe4NGE_KEY"))
    (notice,) = told(upscale(source, tmp_path / "out.mp4"))
    print(notice)
    assert capsys.readouterr().out == "MP4 does not keep the film's tag STR\\udce4NGE_KEY\n"


def test_the_full_range(upscale, tmp_path):
    """Of gray it goes without saying; ProRes has none."""
    source = write(tmp_path / "in.mkv", pictures(3, format="gray"), codec="ffv1")
    for codec, extension, lost in (
        ("ffv1", "mp4", []),
        ("libx264", "mp4", []),
        ("prores_ks", "mov", ["QuickTime does not keep the range of its colors"]),
    ):
        report = upscale(source, tmp_path / f"{codec}.{extension}", codec=codec)
        assert [notice for notice in told(report) if "nearest" not in notice] == lost
