"""The arguments and options of `subpixel upscale`, with their help. `--help` lists them in the order of its
signature.
"""

from typing import Annotated

import typer

from subpixel.cli.usage import FILES, IMAGES, VIDEOS

Inputs = Annotated[
    list[str],  # pathlib would remove slashes of URLs
    typer.Argument(
        metavar="INPUT...", help="Images, videos, or folders of them; also s3://. - reads a video from stdin."
    ),
]
Output = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="PATH",
        help="File, whose extension selects the format, or folder; also s3://. - writes a video to stdout. "
        "With --suffix it may be left out.",
    ),
]
Scale = Annotated[
    float | None,
    typer.Option(
        "--scale", "-s", metavar="N", help="Factor per side, such as 3 or 1.5, up to 16; 2 by default."
    ),
]
Size = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Size instead of a factor: WIDTHxHEIGHT, or 720p, 1080p, 1440p, 4k, 8k.",
    ),
]
Width = Annotated[int | None, typer.Option(metavar="PIXELS", help="Width instead of a factor.")]
Height = Annotated[int | None, typer.Option(metavar="PIXELS", help="Height instead of a factor.")]
Fit = Annotated[
    str | None,
    typer.Option(
        metavar="HOW",
        help="If the size has another shape: inside (default) makes no side longer, cover makes no side "
        "shorter, exact changes the shape.",
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="MODEL",
        help="Name of a packaged model (see `subpixel models`), path of a .safetensors file, or nearest or "
        "epx for pixel art.",
    ),
]
Content = Annotated[
    str | None,
    typer.Option(
        metavar="KIND",
        help="Selects the model instead of -m: clean, compressed, pixel-art, or auto (default). auto "
        "means compressed for images with lossy compression of low quality, and for videos other than .y4m.",
    ),
]
Sharpness = Annotated[
    float,
    typer.Option(
        metavar="N",
        min=0,
        max=1,
        help="Steeper edges, without halos, from 0 to 1. A matter of taste; PSNR falls.",
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing outputs.")]
SkipExisting = Annotated[
    bool,
    typer.Option(
        "--skip-existing",
        help="Leave outputs that exist, such as those of an interrupted run.",
        rich_help_panel=FILES,
    ),
]
Newer = Annotated[
    bool,
    typer.Option(
        "--newer",
        help="Leave outputs that are newer than their inputs, and replace older ones.",
        rich_help_panel=FILES,
    ),
]
Suffix = Annotated[
    str,
    typer.Option(
        metavar="TEXT",
        help="Added to the names of outputs: with -large, photo.png becomes photo-large.png. Without -o, "
        "beside the input.",
        rich_help_panel=FILES,
    ),
]
Jobs = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Images at once. Default: one per CPU, at most 4. Videos are upscaled one by one.",
        rich_help_panel=IMAGES,
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Only print what would be done, and about how long it takes.",
        rich_help_panel=FILES,
    ),
]
Cluster = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Upscale on the machines of a Ray cluster: auto (that of this machine), local (one that is "
        "started here), HOST:PORT or ray://HOST:PORT.",
        rich_help_panel=FILES,
    ),
]
Shard = Annotated[
    str | None,
    typer.Option(
        metavar="I/N",
        help="Do only the I-th of N shares, I from 1, while other calls do the others: every N-th file, or "
        "of a single video every N-th segment.",
        rich_help_panel=FILES,
    ),
]
Recursive = Annotated[
    bool,
    typer.Option(
        "--recursive",
        help="Include subfolders, and create them in the output folder.",
        rich_help_panel=FILES,
    ),
]
JSON = Annotated[bool, typer.Option("--json", help="Print a JSON object for each file on stdout.")]
Verbose = Annotated[
    bool,
    typer.Option("--verbose", "-v", help="Print the model and the engine, why, and the time."),
]
Progress = Annotated[
    str,
    typer.Option(
        metavar="FORM", help="On stderr: auto (a bar on a terminal), json (lines for programs) or none."
    ),
]
Quality = Annotated[
    int,
    typer.Option(
        metavar="N",
        min=1,
        max=100,
        help="Quality of JPEG, WebP, AVIF and JPEG XL. All but JPEG are lossless at 100.",
        rich_help_panel=IMAGES,
    ),
]
Wrap = Annotated[
    str | None,
    typer.Option(
        metavar="AXES",
        help="For textures that are repeated: continue the image with its opposite side along x, y or both. "
        "A panorama of 360 degrees wraps along x.",
        rich_help_panel=IMAGES,
    ),
]
MaxOutputPixels = Annotated[
    int,
    typer.Option(
        metavar="N",
        min=1,
        help="Refuse an image whose output, or each frame of it, would have more pixels.",
        rich_help_panel=IMAGES,
    ),
]
MaxMemory = Annotated[
    int,
    typer.Option(
        metavar="MIB",
        min=1,
        help="Refuse an image that would need more memory, in MiB; the limit for all images at once.",
        rich_help_panel=IMAGES,
    ),
]
Codec = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Encoder of FFmpeg, such as libx264, libx265, libsvtav1 or ffv1.",
        rich_help_panel=VIDEOS,
    ),
]
CRF = Annotated[
    float | None,
    typer.Option(
        metavar="N",
        help="Quality on the scale of the encoder; lower is better. Default for libx264: 18.",
        rich_help_panel=VIDEOS,
    ),
]
Preset = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Speed preset of the encoder. Default for libx264: veryfast.",
        rich_help_panel=VIDEOS,
    ),
]
EncoderOptions = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE",
        help="Another option of the encoder. May be repeated.",
        rich_help_panel=VIDEOS,
    ),
]
Container = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Format on stdout: mp4, mkv, mov, webm or y4m (default).",
        rich_help_panel=VIDEOS,
    ),
]
Start = Annotated[
    str,
    typer.Option(
        metavar="TIME", help="Start of the part to upscale: seconds or H:MM:SS.", rich_help_panel=VIDEOS
    ),
]
End = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="End of the part to upscale: seconds or H:MM:SS.",
        rich_help_panel=VIDEOS,
    ),
]
Deinterlacing = Annotated[
    str,
    typer.Option(
        metavar="HOW",
        help="Interlaced video: auto (default) makes one frame of each frame that is marked as interlaced, "
        "frames does so with all frames, fields makes a frame of each field (double rate, smooth motion), "
        "off leaves it interlaced.",
        rich_help_panel=VIDEOS,
    ),
]
FieldOrder = Annotated[
    str,
    typer.Option(
        metavar="ORDER",
        help="First field of interlaced frames: top or bottom, if the file says it wrong or not at all.",
        rich_help_panel=VIDEOS,
    ),
]
InverseTelecine = Annotated[
    bool,
    typer.Option(
        "--inverse-telecine",
        help="Restore the 24 frames per second of a film in 30 interlaced ones.",
        rich_help_panel=VIDEOS,
    ),
]
SquarePixels = Annotated[
    bool,
    typer.Option(
        "--square-pixels",
        help="Give an anamorphic video square pixels, and the shape that players show.",
        rich_help_panel=VIDEOS,
    ),
]
Grain = Annotated[
    str,
    typer.Option(
        metavar="keep|N",
        help="Give back the noise that the model removes: keep (all of it), or a share from 0 to 1. A matter "
        "of taste; PSNR falls.",
        rich_help_panel=VIDEOS,
    ),
]
DropUnsupported = Annotated[
    bool,
    typer.Option(
        "--drop-unsupported",
        help="Leave out streams that the container cannot store, instead of failing.",
        rich_help_panel=VIDEOS,
    ),
]
MaxDamage = Annotated[
    float,
    typer.Option(
        metavar="SHARE",
        min=0,
        max=1,
        help="Exit with code 1 if a larger share of the frames is damaged or missing.",
        rich_help_panel=VIDEOS,
    ),
]
