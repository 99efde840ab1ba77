"""Videos of every codec, container and oddity that can be written here, to check readers with.

`make_videos(FOLDER)` writes a file for each entry of `recipes()`: small pictures, no footage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Disposition
from numpy.typing import NDArray

FRAMES, HEIGHT, WIDTH = 40, 64, 96
#: Display matrices (the upper left 2 x 2, row by row) of the eight orientations.
ORIENTATIONS = {
    "upright": (1, 0, 0, 1), "right": (0, 1, -1, 0), "around": (-1, 0, 0, -1),
    "left": (0, -1, 1, 0), "mirror": (-1, 0, 0, 1), "flip": (1, 0, 0, -1),
    "transpose": (0, 1, 1, 0), "transverse": (0, -1, -1, 0),
}  # fmt: skip
#: Codec, pixel format and endings of plain files.
PLAIN = (
    ("libx264", "yuv420p", "mp4 mov mkv avi flv ts mts 3gp"), ("libx264", "yuv422p", "mp4"),
    ("libx264", "yuv444p", "mp4"), ("libx264", "yuvj420p", "mp4"),
    ("libx264", "yuv420p10le", "mp4"), ("libx264", "gray", "mkv"), ("libx264rgb", "rgb24", "mp4"),
    ("libx265", "yuv420p", "mp4 mkv ts"), ("libx265", "yuv420p10le", "mp4"),
    ("libx265", "yuv444p", "mp4"), ("mpeg4", "yuv420p", "avi mp4 3gp"),
    ("mpeg2video", "yuv420p", "mpg ts vob mxf"), ("mpeg1video", "yuv420p", "mpg"),
    ("libvpx", "yuv420p", "webm mkv"), ("libvpx-vp9", "yuv420p", "webm mp4"),
    ("libvpx-vp9", "yuv444p", "webm"), ("libvpx-vp9", "yuva420p", "webm"),
    ("libsvtav1", "yuv420p", "mp4 webm"),
    ("mjpeg", "yuvj420p", "avi"), ("mjpeg", "yuvj422p", "mov"),
    ("mjpeg", "yuvj444p", "mkv"), ("prores_ks", "yuv422p10le", "mov"),
    ("prores_ks", "yuva444p10le", "mov"), ("wmv2", "yuv420p", "wmv"), ("wmv1", "yuv420p", "wmv"),
    ("msmpeg4v2", "yuv420p", "avi"), ("flv", "yuv420p", "flv"), ("ffv1", "yuv420p", "mkv"),
    ("huffyuv", "yuv422p", "avi"), ("qtrle", "argb", "mov"), ("png", "rgba", "mov"),
    ("rawvideo", "bgr24", "avi"), ("gif", "rgb8", "gif"), ("svq1", "yuv410p", "mov"),
    ("cfhd", "yuv422p10le", "mov"), ("msvideo1", "rgb555le", "avi"),
)  # fmt: skip
#: Encoders write to the terminal unless they are told not to.
QUIET = {"libx265": {"x265-params": "log-level=none"}}
Pictures = NDArray[np.uint8]
Recipe = Callable[[Path], object]


def pictures(
    frames: int = FRAMES, height: int = HEIGHT, width: int = WIDTH, tint: int = 0
) -> Pictures:
    """(frames, height, width, 3): other colours in every corner, a moving bar, a level a frame."""
    y, x = np.mgrid[0:height, 0:width]
    made = np.empty((frames, height, width, 3), np.uint8)
    for number, picture in enumerate(made):
        picture[..., 0] = x * 200 // width + 20
        picture[..., 1] = (y * 160 // height + 20 + tint) % 256
        picture[..., 2] = (5 * number + tint) % 256
        picture[:, 2 * number % width : 2 * number % width + 6] = (250, 30, 90)
        picture[height // 3] = (30, 220, 40)
    return made


def write_video(
    path: Path,
    codec: str = "libx264",
    shown: Pictures | None = None,
    *,
    pix_fmt: str = "yuv420p",
    matrix: Sequence[float] | None = None,
    times: Sequence[int] | None = None,
    container: dict[str, str] | None = None,
    tags: dict[str, int] | None = None,
    **options: str,
) -> Path:
    """Encode `shown` (default: `pictures()`) to `path`, 25 frames a second.

    `matrix`: see ORIENTATIONS; `times`: each frame's, in 1/100 s; `container`: the muxer's options;
    `tags`: attributes of the encoder, such as its colour range; `options`: the encoder's.
    """
    shown = pictures() if shown is None else shown
    with av.open(str(path), "w", options=container or {}) as file:
        stream = _add_stream(file, codec, shown, pix_fmt, options)
        stream.codec_context.time_base = Fraction(1, 100 if times else 25)
        for name, value in (tags or {}).items():
            setattr(stream.codec_context, name, value)
        if matrix is not None:
            a, b, c, d = (round(65536 * entry) for entry in matrix)
            stream.set_display_matrix([a, b, 0, c, d, 0, 0, 0, 1 << 30])
        for number, picture in enumerate(shown):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = times[number] if times else number
            frame.time_base = stream.codec_context.time_base
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def _add_stream(
    file: Any, codec: str, shown: Pictures, pix_fmt: str, options: dict[str, str]
) -> Any:
    stream = file.add_stream(codec, rate=25, options=QUIET.get(codec, {}) | options)
    stream.height, stream.width = shown.shape[1:3]
    stream.pix_fmt, stream.bit_rate = pix_fmt, 1_000_000
    return stream


def write_tracks(path: Path, *tracks: tuple[Pictures, Disposition], sound: bool = False) -> None:
    """Several video tracks, a picture flagged as cover among them if one says so."""
    with av.open(str(path), "w") as file:
        streams = []
        for shown, disposition in tracks:
            cover = Disposition.attached_pic in disposition
            one = _add_stream(
                file, "mjpeg" if cover else "libx264", shown, "yuvj420p" if cover else "yuv420p", {}
            )
            one.disposition = disposition
            streams.append(one)
        if sound:
            _add_sound(file)
        for stream, (shown, _) in zip(streams, tracks, strict=True):
            for number, picture in enumerate(shown):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts = number
                file.mux(stream.encode(frame))
            file.mux(stream.encode(None))


def _add_sound(file: Any) -> None:
    stream = file.add_stream("aac", rate=44100)
    for number in range(60):
        silence = np.zeros((1, 1024), np.float32)
        sound = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
        sound.sample_rate, sound.pts = 44100, 1024 * number
        file.mux(stream.encode(sound))
    file.mux(stream.encode(None))


def call_every_sample_a_key_frame(path: Path) -> None:
    """Rename the box that lists the key frames: without it, all samples are called so."""
    content = path.read_bytes()
    assert content.count(b"stss") == 1
    path.write_bytes(content.replace(b"stss", b"free"))


def write_cut(path: Path, frames: int) -> None:
    """A video cut without encoding again: an edit list hides its first `frames` frames."""
    whole = write_video(path.with_suffix(".whole.mp4"), g="50", bf="2")
    with av.open(str(whole)) as source, av.open(str(path), "w") as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        assert stream.time_base is not None
        shift = round(frames / 25 / stream.time_base)
        for packet in source.demux(stream):
            if packet.pts is not None and packet.dts is not None:
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, copy
                target.mux(packet)
    whole.unlink()


def write_resized(path: Path) -> None:
    """A transport stream whose frames become larger on the way."""
    parts = [path.with_suffix(".1.ts"), path.with_suffix(".2.ts")]
    write_video(parts[0], "mpeg2video")
    write_video(parts[1], "mpeg2video", pictures(20, 96, 128))
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    for part in parts:
        part.unlink()


def write_hole(path: Path, **options: str) -> None:
    """A video in which the middle of the data is zero."""
    content = bytearray(write_video(path, **options).read_bytes())
    begin = len(content) // 2
    content[begin : begin + 2000] = bytes(2000)
    path.write_bytes(content)


def _lying(path: Path, **options: str) -> None:
    call_every_sample_a_key_frame(write_video(path, **options))


def recipes() -> Iterator[tuple[str, Recipe]]:
    """File name and what writes it."""
    for codec, pix_fmt, endings in PLAIN:
        for ending in endings.split():
            bf = {"bf": "0"} if (codec, ending) == ("libx264", "avi") else {}
            yield (
                f"{codec}_{pix_fmt}.{ending}",
                lambda path, codec=codec, pix_fmt=pix_fmt, bf=bf: write_video(
                    path, codec, pix_fmt=pix_fmt, **bf
                ),
            )
    for name, matrix in ORIENTATIONS.items():
        yield f"matrix_{name}.mp4", lambda path, m=matrix: write_video(path, matrix=m, g="4")
        yield (
            f"matrix_{name}_422.mov",
            lambda path, m=matrix: write_video(path, "prores_ks", pix_fmt="yuv422p10le", matrix=m),
        )
    tilted = {
        "30": (0.866, 0.5, -0.5, 0.866),
        "1": (1, 0.0175, -0.0175, 1),
        "sheared": (1, 0, 0.5, 1),
    }
    for name, matrix in tilted.items():
        yield f"matrix_{name}.mp4", lambda path, m=matrix: write_video(path, matrix=m)
    yield from _odd_streams()
    yield from _odd_pictures()
    yield from _odd_containers()


def _odd_streams() -> Iterator[tuple[str, Recipe]]:
    interlaced = {"flags": "+ildct+ilme"}
    many = {
        "all_intra": {"g": "1"}, "short_groups": {"g": "4"},
        "short_groups_p": {"g": "4", "bf": "0"},
        "pyramid": {"g": "5", "bf": "4", "b-pyramid": "normal"},
        "open_groups": {"g": "4", "x264-params": "open-gop=1:b-adapt=0:scenecut=0"},
        "intra_refresh": {"x264-params": "intra-refresh=1:keyint=8"},
        "slices": {"g": "3", "slices": "4"}, "interlaced": interlaced,
        "interlaced_short_groups": {"g": "4", **interlaced},
        "flagged_interlaced": {"g": "4", "x264-params": "fake-interlaced=1"},
        "no_reordering": {"tune": "zerolatency", "g": "5"},
    }  # fmt: skip
    for name, options in many.items():
        yield f"{name}.mp4", lambda path, o=options: write_video(path, **o)
        if name != "all_intra":
            yield f"{name}_all_called_key.mp4", lambda path, o=options: _lying(path, **o)
    yield (
        "hevc_short_groups.mp4",
        lambda path: write_video(path, "libx265", **{"x265-params": "keyint=4:log-level=none"}),
    )
    yield "interlaced.mpg", lambda path: write_video(path, "mpeg2video", **interlaced)
    yield "interlaced.avi", lambda path: write_video(path, "mpeg4", **interlaced)
    yield (
        "interlaced.mov",
        lambda path: write_video(path, "prores_ks", pix_fmt="yuv422p10le", flags="+ildct"),
    )
    yield (
        "interlaced_dv.avi",
        lambda path: write_video(path, "dvvideo", pictures(4, 480, 720), pix_fmt="yuv411p"),
    )
    yield "hole_all_intra.mp4", lambda path: write_hole(path, g="1")
    yield "hole_short_groups.mp4", lambda path: write_hole(path, g="4")


def _odd_pictures() -> Iterator[tuple[str, Recipe]]:
    for height, width in ((64, 97), (65, 96), (65, 97), (30, 18)):
        size = pictures(FRAMES, height, width)
        yield f"size_{width}x{height}.webm", lambda path, s=size: write_video(path, "libvpx-vp9", s)
        yield (
            f"size_{width}x{height}.mp4",
            lambda path, s=size: write_video(path, "libx264rgb", s, pix_fmt="rgb24"),
        )
    for space in (1, 4, 5, 6, 7, 9):
        tags = {"colorspace": space, "color_range": 1 + space % 2}
        yield f"colours_{space}.mp4", lambda path, t=tags: write_video(path, tags=t, g="4")
    for frames in (1, 2, 7):
        yield (
            f"frames_{frames}.mp4",
            lambda path, n=frames: write_video(path, shown=pictures(n), g="1"),
        )
        yield f"frames_{frames}.avi", lambda path, n=frames: write_video(path, "mpeg4", pictures(n))


def _odd_containers() -> Iterator[tuple[str, Recipe]]:
    small, large = pictures(), pictures(FRAMES, 128, 160, tint=90)
    cover = pictures(1, 200, 200, tint=40)
    default, no, picture = Disposition.default, Disposition(0), Disposition.attached_pic
    for ending in ("mp4", "mkv", "mov"):
        for name, tracks in {
            "small_default": ((small, default), (large, no)),
            "large_default": ((small, no), (large, default)),
            "large_first": ((large, no), (small, default)),
            "both_default": ((small, default), (large, default)),
        }.items():
            yield f"tracks_{name}.{ending}", lambda path, t=tracks: write_tracks(path, *t)
    for ending in ("mp4", "mkv"):
        yield (
            f"cover.{ending}",
            lambda path: write_tracks(path, (small, default), (cover, picture), sound=True),
        )
    yield "sound.mkv", lambda path: write_tracks(path, (small, default), sound=True)
    for hidden in (3, 10, 30):
        yield f"cut_{hidden}.mp4", lambda path, n=hidden: write_cut(path, n)
    uneven = [number * (number + 3) for number in range(FRAMES)]
    for ending in ("mp4", "mkv"):
        yield f"uneven_times.{ending}", lambda path: write_video(path, times=uneven, g="4")
    yield (
        "starts_late.mp4",
        lambda path: write_video(path, times=[500 + 4 * n for n in range(FRAMES)], g="4"),
    )
    fragments = {"movflags": "frag_keyframe+empty_moov"}
    yield "fragments.mp4", lambda path: write_video(path, container=fragments, g="4")
    yield (
        "index_first.mp4",
        lambda path: write_video(path, container={"movflags": "faststart"}, g="4"),
    )
    yield "resized.ts", write_resized


def make_videos(folder: Path) -> list[str]:
    """Write them all; answers with the names of those that this FFmpeg cannot write, and why."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = []
    for name, write in recipes():
        try:
            write(folder / name)
        except (av.error.FFmpegError, av.codec.codec.UnknownCodecError, ValueError) as error:
            (folder / name).unlink(missing_ok=True)
            missing.append(f"{name}: {error}")
    return missing
