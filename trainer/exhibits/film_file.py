"""Write films: animated WebP and GIF by Pillow, MP4 by ffmpeg."""

from __future__ import annotations

import functools
import io
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from shards.core.atomic_io import explain_disk_errors, write_bytes
from shards.core.errors import Failure, UserError

_LARGEST = 4096  # pixels per side
_MEMORY = 1 << 30  # bytes of all frames of a film
_GIF_RATE = 50  # frames per second; browsers slow films down that are faster
_GIF_SECONDS = 655  # that a frame is shown at most; equal frames become one
_QUALITY = 90  # of WebP
_CRF = 16  # of H.264; lower is better


def write_film(path: Path, frames: Iterable[Image.Image], count: int, fps: float) -> None:
    """Write a film atomically, in the format that the file's ending names; its folder is created if necessary.

    The same frames give the same bytes. Consecutive frames that are equal may be stored as one that is shown longer.

    Args:
        path: ….webp, ….gif or ….mp4; see `check_film`.
        frames: RGB images of one size.
        count: how many there are.
        fps: frames per second.

    Raises:
        UserError: the frames are too large, or the film too long for a GIF.
        Failure: the film cannot be encoded or written.
    """
    if path.suffix.lower() == ".gif" and count > _GIF_SECONDS * fps:
        raise UserError(
            "film-too-large",
            f"{path}: {count / fps:,.0f} seconds; a GIF lasts {_GIF_SECONDS} at most: give fewer --seconds, or a .webp "
            "or .mp4 file",
        )
    with tqdm(total=count, desc=path.name, unit="frame", dynamic_ncols=True, disable=not sys.stderr.isatty()) as bar:
        data = _ENCODERS[path.suffix.lower()](_checked(frames, count, bar.update), fps)
    with explain_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, data)


def check_film(path: Path, fps: float) -> None:
    """Check that a film can be written under a name, before its frames are drawn.

    Raises:
        UserError: the ending names no format, the film is too fast for it, or a package is missing.
    """
    ending = path.suffix.lower()
    if ending not in _ENCODERS or path.is_dir():
        raise UserError("invalid-output-name", f"--film {path}: give the name of a .webp, .gif or .mp4 file")
    if ending == ".gif" and fps > _GIF_RATE:
        raise UserError("invalid-value", f"--fps {fps:g}: a GIF has at most {_GIF_RATE}; use .webp or .mp4")
    if ending == ".mp4":
        _ffmpeg()


def _checked(frames: Iterable[Image.Image], count: int, advance: Callable[[int], object]) -> Iterator[Image.Image]:
    """Yield the frames; raise UserError if they are too large to encode, as soon as the first one shows it."""
    for frame in frames:
        width, height = frame.size
        if max(width, height) > _LARGEST or 3 * width * height * count > _MEMORY:
            raise UserError(
                "film-too-large",
                f"{count:,} frames of {width} x {height} pixels are too large for a film; give smaller --tiles or "
                "--seconds",
            )
        yield frame
        advance(1)


def _durations(count: int, fps: float, unit: int) -> list[int]:
    """Return how long each frame is shown in milliseconds, multiples of ``unit``, whose sums are the nearest."""
    ends = [unit * round(1000 * (number + 1) / (fps * unit)) for number in range(count)]
    return [end - start for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def _webp(frames: Iterator[Image.Image], fps: float) -> bytes:
    first, *rest = frames
    out = io.BytesIO()
    durations = _durations(1 + len(rest), fps, 1)
    first.save(out, "WEBP", save_all=True, append_images=rest, duration=durations, loop=0, quality=_QUALITY, method=4)
    return out.getvalue()


def _gif(frames: Iterator[Image.Image], fps: float) -> bytes:
    # Each frame has its own 256 colours. Without dithering, whose dots would flicker.
    first, *rest = [frame.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE) for frame in frames]
    out = io.BytesIO()
    durations = _durations(1 + len(rest), fps, 10)
    first.save(out, "GIF", save_all=True, append_images=rest, duration=durations, loop=0, optimize=False)
    return out.getvalue()


def _mp4(frames: Iterator[Image.Image], fps: float) -> bytes:
    """Encode H.264 that every player reads: even sides, 4:2:0, the index at the start, nothing that varies."""
    first = next(frames)
    size = first.width + first.width % 2, first.height + first.height % 2
    with tempfile.TemporaryDirectory(prefix="cgan-film-") as folder, tempfile.TemporaryFile() as messages:
        film = Path(folder, "film.mp4")
        command = [
            *(_ffmpeg(), "-hide_banner", "-loglevel", "error", "-nostdin"),
            *("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{size[0]}x{size[1]}", "-r", f"{fps:g}", "-i", "pipe:0"),
            *("-vf", "scale=out_color_matrix=bt709:out_range=tv,format=yuv420p"),
            *("-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv"),
            *("-c:v", "libx264", "-preset", "medium", "-crf", str(_CRF), "-threads", "1"),
            *("-fflags", "+bitexact", "-flags:v", "+bitexact", "-map_metadata", "-1", "-movflags", "+faststart"),
            str(film),
        ]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=messages) as process:
            assert process.stdin is not None
            try:
                for frame in _with(first, frames):
                    padded = Image.new("RGB", size, "white")
                    padded.paste(frame)
                    process.stdin.write(padded.tobytes())
                process.stdin.close()
            except BrokenPipeError:  # it has ended, and said why
                pass
            except BaseException:
                process.kill()
                raise
        messages.seek(0)
        if process.returncode or not film.is_file():
            said = messages.read().decode(errors="replace").strip().splitlines()
            raise Failure("process-failed", f"ffmpeg could not encode the film: {said[-1] if said else 'no reason'}")
        return film.read_bytes()


def _with(first: Image.Image, rest: Iterator[Image.Image]) -> Iterator[Image.Image]:
    yield first
    yield from rest


@functools.cache
def _ffmpeg() -> str:
    """Return the path of ffmpeg.

    Raises:
        UserError: the extra `film` is not installed.
    """
    try:
        import imageio_ffmpeg

        return imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError):
        raise UserError(
            "package-missing",
            '--film: an .mp4 file needs ffmpeg: pip install "cgan-trainer[film]"; or write a .webp or .gif file',
        ) from None


_ENCODERS: dict[str, Callable[[Iterator[Image.Image], float], bytes]] = {".webp": _webp, ".gif": _gif, ".mp4": _mp4}
