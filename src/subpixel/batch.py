"""A run over files and folders: which file is written for which input."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Literal, NamedTuple

from subpixel.content import Content, content_of_image, content_of_video
from subpixel.errors import OutputError, SubpixelError
from subpixel.files import PIPE
from subpixel.images.formats import EXTENSIONS as IMAGE_EXTENSIONS
from subpixel.images.formats import OUTPUT_EXTENSIONS as WRITTEN_IMAGE_EXTENSIONS
from subpixel.storage.local_copies import as_paths
from subpixel.storage.paths import Location, ObjectPath, is_file, is_folder, locate, modified_ns
from subpixel.video.media.containers import INPUT_EXTENSIONS as VIDEO_EXTENSIONS
from subpixel.video.media.containers import OUTPUT_EXTENSIONS as WRITTEN_VIDEO_EXTENSIONS

_WRITTEN = (*WRITTEN_IMAGE_EXTENSIONS, *WRITTEN_VIDEO_EXTENSIONS)
_REQUESTS_AT_ONCE = 16
_TRANSPORT_STREAM = b"\x47"
"""The first byte of an MPEG transport stream."""

ExistingOutputs = Literal["refuse", "overwrite", "skip", "newer"]
"""What happens to a job whose output exists. "refuse" fails, "overwrite" replaces the output, "skip" leaves
it, "newer" leaves it only if it is at least as new as the input, and replaces it otherwise."""


class Job(NamedTuple):
    """One input file and its output file."""

    source: Location
    output: Location

    @property
    def is_video(self) -> bool:
        """Whether `upscale_video` does this job: a path is "-", or has the extension of a video."""
        extensions = {path.suffix.lower() for path in self}
        return PIPE in map(str, self) or not extensions.isdisjoint(VIDEO_EXTENSIONS)


@dataclass
class BatchPlan:
    """The jobs of a run."""

    jobs: list[Job] = field(default_factory=list)
    """In the order in which they run."""
    skipped: int = 0
    """How many files in input folders have the extension of neither an image nor a video."""
    results: list[Location] = field(default_factory=list)
    """Inputs that are left out, because they are the outputs of other inputs; only with a suffix."""
    unreadable: list[str] = field(default_factory=list)
    """Errors about folders inside the inputs whose files cannot be listed."""


def plan_batch(
    inputs: Sequence[Location], output: str | None, *, recursive: bool = False, suffix: str = ""
) -> BatchPlan:
    """Choose the output file of each input, without decoding any input.

    A single input file gives a single output file where ``output`` has an extension or is "-" (stdout).
    In every other case ``output`` is a folder, which need not exist. In a folder each output keeps the name
    of its input. If that name has the extension of no format that Subpixel writes, ``.mkv`` is added for a
    video and ``.png`` for anything else.

    An input folder gives its images and videos, which are selected by extension; hidden files are left out.
    With ``recursive`` its subfolders are included, and the output has the same subfolders.

    A ``suffix`` is added to the names of outputs: with "-large", ``a.png`` becomes ``a-large.png``. Then
    ``output`` may be the input folder, and with None each output is written beside its input. Inputs that
    are outputs of other inputs (of an earlier run) are left out.

    ``s3://BUCKET/FOLDER`` is a folder if there is an object below it; one of the same name is then no input.

    Raises:
        ValueError: the inputs do not match the output, so that the run must not start.
        OutputError: ``output`` has the extension of a format that Subpixel does not write.
    """
    if output == "":
        raise ValueError('the output name is empty; "." is the current folder')
    _check_suffix(suffix)
    inputs = [locate(source) for source in inputs]
    _check_buckets([*inputs, *([] if output is None else [output])])
    if output is None:
        if not suffix:
            raise ValueError(
                "no output: name a file or folder with -o, or write beside the inputs with a suffix, such as "
                "--suffix -large"
            )
        if PIPE in map(str, inputs):
            raise ValueError('"-" is a video on stdin; name its output with -o')
        return _plan_folder(inputs, None, recursive, suffix)
    target = locate(output)
    into_folder = is_folder(target) or output.endswith(("/", os.sep))
    one_file = len(inputs) == 1 and not is_folder(inputs[0])
    _check_pipes(inputs, output, into_file=one_file and not into_folder)
    if output == PIPE or (one_file and not into_folder and target.suffix):
        if suffix:
            shown = "stdout" if output == PIPE else output
            raise ValueError(
                f"the suffix is for outputs in a folder, and {shown} is none; leave out one of them"
            )
        _check_extension(output)
        return BatchPlan([Job(inputs[0], target)])
    _check_folder(output, one_file=one_file, several=len(inputs) > 1, into_folder=into_folder)
    return _plan_folder(inputs, target, recursive, suffix)


def content_of(job: Job) -> Content:
    """Classify the input of a job; one that cannot be read is clean, and the job reports the error."""
    if job.is_video and job.source.suffix.lower() not in IMAGE_EXTENSIONS:
        return content_of_video(Path(job.source))
    classify = content_of_video if job.is_video else content_of_image
    try:
        with as_paths(job.source, job.output) as paths:
            return classify(Path(paths.input))
    except SubpixelError:
        return classify(Path(job.source))


def reason_to_skip(job: Job, existing: ExistingOutputs) -> str:
    """Return why a job is not to be run, as text for users; empty if it is to be run.

    A job is also run if its input is missing or its output is no regular file, so that it reports that.
    """
    if existing not in ("skip", "newer") or not is_file(job.output):
        return ""
    if str(job.source) == PIPE:
        return "the output exists" if existing == "skip" else ""
    if existing == "skip" and isinstance(job.source, ObjectPath):
        return "" if job.source == job.output else "the output exists"  # without another request
    try:
        source_ns, output_ns = modified_ns(job.source), modified_ns(job.output)
        if job.source == job.output or _is_same_file(job):
            return ""
    except OSError:
        return ""
    if existing == "skip":
        return "the output exists"
    return "the output is newer" if output_ns >= source_ns else ""


def reasons_to_skip(jobs: Sequence[Job], existing: ExistingOutputs) -> list[str]:
    """Return the results of `reason_to_skip`; for objects in buckets, several are asked for at once."""
    at_once = _REQUESTS_AT_ONCE if any(isinstance(path, ObjectPath) for job in jobs for path in job) else 1
    with ThreadPoolExecutor(at_once, "subpixel-skip") as threads:
        return [*threads.map(lambda job: reason_to_skip(job, existing), jobs)]


def _is_same_file(job: Job) -> bool:
    source, output = job
    return isinstance(source, Path) and isinstance(output, Path) and source.samefile(output)


def _plan_folder(
    inputs: Sequence[Location], target: Location | None, recursive: bool, suffix: str
) -> BatchPlan:
    """Plan outputs in a folder, or with None beside the inputs."""
    result = BatchPlan()
    for source in inputs:
        if is_folder(source):
            _add_folder(result, source, target, recursive, suffix)
        else:
            folder = source.parent if target is None else target
            result.jobs.append(Job(source, folder / _output_name(source.name, suffix)))
    if suffix:
        _leave_out_results(result)
    _check_conflicts(result.jobs)
    return result


def _check_suffix(suffix: str) -> None:
    separators = {"/", os.sep, os.altsep or os.sep}
    if any(separator in suffix for separator in separators) or "\0" in suffix:
        raise ValueError(f"the suffix {suffix!r} contains a path separator; name a folder with -o")


def _leave_out_results(plan: BatchPlan) -> None:
    """Remove the jobs whose inputs are outputs of other jobs."""
    resolve = _resolver()
    outputs = {resolve(job.output) for job in plan.jobs}
    plan.results = [job.source for job in plan.jobs if resolve(job.source) in outputs]
    plan.jobs = [job for job in plan.jobs if resolve(job.source) not in outputs]


def _resolver() -> Callable[[Location], Location]:
    """Return a fast `Path.resolve` for thousands of files, which resolves each folder once."""
    folders: dict[Path, Path] = {}

    def resolve(path: Location) -> Location:
        if isinstance(path, ObjectPath):
            return path
        if os.path.islink(path) or path.name in ("", ".."):  # noqa: PTH114 - as in `is_file`
            return _resolved(path)
        if path.parent not in folders:
            folders[path.parent] = _resolved(path.parent)
        return folders[path.parent] / path.name

    return resolve


def _resolved(path: Path) -> Path:
    """`Path.resolve`, which raises for a link that leads to itself; the job reports that."""
    return Path(os.path.realpath(path))


def _check_pipes(inputs: Sequence[Location], output: str, *, into_file: bool) -> None:
    if PIPE in (output, *map(str, inputs)) and not into_file:
        raise ValueError('"-" is a single video: give one input file, and a file or "-" as output')
    if str(inputs[0]) == PIPE and Path(output).suffix.lower() in IMAGE_EXTENSIONS:
        raise ValueError(f'"-" is a video on stdin, and {output} is an image; give a file as input')


def _check_extension(output: str) -> None:
    suffix = Path(output).suffix
    if output != PIPE and suffix.lower() not in _WRITTEN:
        known = ", ".join(_WRITTEN)
        raise OutputError(f"{output}: cannot write the format {suffix!r}; known: {known}")


def _check_buckets(names: Sequence[Location | str]) -> None:
    """Raise ValueError for ``s3://`` alone: a file name behind it would be taken for a bucket."""
    for name in names:
        if str(name).rstrip("/").lower() == "s3:" and not os.path.lexists(str(name)):
            raise ValueError("s3://: names no bucket; write s3://BUCKET/NAME")


def _check_folder(output: str, *, one_file: bool, several: bool, into_folder: bool) -> None:
    """Raise ValueError if ``output``, which must be a folder, is a file or looks like one."""
    target = locate(output)
    need = "several inputs need a folder" if several else "an input folder needs an output folder"
    if not is_folder(target) and (is_file(target) or os.path.lexists(target)):
        if isinstance(target, Path) and not os.path.exists(target):  # noqa: PTH110 - as in `is_file`
            raise ValueError(
                f"{target}: is a link to a folder that does not exist; create it, or name another"
            )
        if one_file:
            known = ", ".join(_WRITTEN)
            raise ValueError(f"{target}: has no extension to select the format; known: {known}")
        raise ValueError(f"{target}: is a file; {need}")
    if not into_folder and target.suffix.lower() in _WRITTEN:
        raise ValueError(f"{target}: {need}; if this is a folder, end its name in {os.sep}")


def _add_folder(
    plan: BatchPlan, source: Location, target: Location | None, recursive: bool, suffix: str
) -> None:
    """Add the jobs for the images and videos in an input folder; with no target, outputs are beside them."""
    resolve = _resolver()
    if target is None or resolve(source) == resolve(target):
        if not suffix:
            raise ValueError(
                f"{target}: is the input folder; name another output folder, or add a suffix to the names of "
                "outputs, such as --suffix -large"
            )
        target, excluded = source, None
    else:
        excluded = resolve(target)
    before = len(plan.jobs)
    for path in _files(plan, source, recursive, excluded):
        if _is_image_or_video(path):
            folder = target / _relative(path.parent, source)
            plan.jobs.append(Job(path, folder / _output_name(path.name, suffix)))
        else:
            plan.skipped += 1
    if len(plan.jobs) == before and not plan.unreadable:
        known = ", ".join((*IMAGE_EXTENSIONS, *VIDEO_EXTENSIONS))
        cure = "" if recursive else "; --recursive includes its subfolders"
        raise ValueError(f"{source}: contains no images or videos ({known}){cure}")


def _output_name(name: str, suffix: str = "") -> str:
    extension = Path(name).suffix
    large = f"{name.removesuffix(extension)}{suffix}{extension}"
    if extension.lower() in _WRITTEN:
        return large
    return f"{large}.mkv" if extension.lower() in VIDEO_EXTENSIONS else f"{large}.png"


def _is_image_or_video(path: Location) -> bool:
    suffix = path.suffix.lower()
    if isinstance(path, Path) and os.path.exists(path) and not is_file(path):  # noqa: PTH110 - a pipe would block
        return False
    if suffix == ".ts":  # a transport stream or TypeScript
        try:
            return _first_byte(path) == _TRANSPORT_STREAM
        except OSError:
            return True  # the job reports the error
    return suffix in IMAGE_EXTENSIONS or suffix in VIDEO_EXTENSIONS


def _relative(path: Location, folder: Location) -> PurePath:
    if isinstance(path, ObjectPath):
        assert isinstance(folder, ObjectPath)
        return path.relative_to(folder)
    return path.relative_to(folder)


def _first_byte(path: Location) -> bytes:
    if isinstance(path, ObjectPath):
        return bytes(path.read(0, 1))
    with path.open("rb") as file:
        return file.read(1)


def _files(
    plan: BatchPlan, folder: Location, recursive: bool, excluded: Location | None
) -> Iterator[Location]:
    """List the files in a folder, sorted, without hidden ones. Links to folders are not followed."""
    if isinstance(folder, ObjectPath):
        yield from _objects(plan, folder, recursive, excluded)
        return

    def report(error: OSError) -> None:
        plan.unreadable.append(f"{error.filename}: the folder cannot be read ({error.strerror or error})")

    for root, folders, names in os.walk(folder, onerror=report):
        here = Path(root)
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and (here / name).resolve() != excluded
        )
        yield from (here / name for name in sorted(names) if not name.startswith("."))
        if not recursive:
            return


def _objects(
    plan: BatchPlan, folder: ObjectPath, recursive: bool, excluded: Location | None
) -> Iterator[ObjectPath]:
    """List the objects in a folder, without those in another one."""
    try:
        for path, status in folder.walk(recursive=recursive):
            is_folder_marker = not status.size and not path.suffix
            if not is_folder_marker and not (isinstance(excluded, ObjectPath) and path.is_below(excluded)):
                yield path
    except OSError as error:
        plan.unreadable.append(f"{folder}: the folder cannot be read ({error.strerror or error})")


def _check_conflicts(jobs: Iterable[Job]) -> None:
    """Raise ValueError if two inputs have the same output, or an output would replace another input."""
    source_of: dict[Location, Location] = {}
    resolve = _resolver()
    inputs = {resolve(source) for source, _ in jobs}
    for source, output in jobs:
        target = resolve(output)
        if target in source_of and resolve(source_of[target]) == resolve(source):
            raise ValueError(f"{source}: is given twice; name it once, or only its folder")
        if target in source_of:
            raise ValueError(
                f"{source_of[target]} and {source} would both become {output}; run them separately"
            )
        if target in inputs and target != resolve(source):
            raise ValueError(f"{output}: is one of the inputs; name another output folder")
        source_of[target] = source
