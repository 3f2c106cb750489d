#!/usr/bin/env python3
"""Reads the same HLS recording with kvs-hls, ffmpeg, OpenCV and PyAV, and prints what each takes for it.

Every peer fetches the recording from a server on this machine, decodes all of it and converts each frame to BGR, in a
process of its own, in turns. Each figure is the median over the rounds; in parentheses stands its ratio to kvs-hls.
"""

from __future__ import annotations

import argparse
import functools
import http.server
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import IO

ROOT = Path(__file__).resolve().parents[2]
# How cameras encode, and what x264 does when told nothing: B-frames, weighted prediction, three references.
CAMERA = ["-bf", "0", "-refs", "1", "-x264-params", "weightp=0:scenecut=0"]
MADE: dict[str, tuple[str, str, list[str]]] = {
    "camera-1080p": ("1920x1080", "4M", CAMERA),
    "camera-720p": ("1280x720", "2M", CAMERA),
    "x264-1080p": ("1920x1080", "4M", []),
}


@dataclass(frozen=True)
class Run:
    """What one process gave and took."""

    frames: int
    wall: float
    cpu: float
    peak_mb: float
    first_frame: float


@dataclass(frozen=True)
class Peer:
    """A program that reads a URL; `read` runs it once."""

    name: str
    read: Callable[[str], Run]
    # Whether it leaves frames out on purpose.
    is_partial: bool = False


# --- Processes -------------------------------------------------------------------------------------------------------


def run(command: list[str], env: dict[str, str]) -> tuple[str, float, float, float]:
    """Runs a program to its end: what it printed, seconds on the clock, CPU seconds, peak memory in MB."""
    started = time.monotonic()
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=os.environ | env)
        printed = pipe(process).read()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            errors.seek(0)
            sys.exit(f"{command[0]} failed ({process.returncode}): {errors.read()[-2000:]}")
    return printed, wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def first_byte(command: list[str]) -> float:
    """Seconds until the program's first byte of a frame stands in a pipe; then it is ended."""
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0)
    found = pipe(process).read(1)
    seconds = time.monotonic() - started
    process.kill()
    process.communicate()
    if not found:
        sys.exit(f"{command[0]} wrote no frame")
    return seconds


def pipe(process: subprocess.Popen) -> IO:
    assert process.stdout is not None
    return process.stdout


@contextmanager
def pinned(is_pinned: bool) -> Iterator[None]:
    """Lets the processes started meanwhile have one CPU only: they inherit it."""
    before = os.sched_getaffinity(0)
    if is_pinned:
        os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


# --- Peers -----------------------------------------------------------------------------------------------------------


def read_kvs_hls(program: Path, options: list[str], url: str) -> Run:
    command = [str(program), "frames", "--url", url, "--delivery", "all", *options]
    printed, wall, cpu, peak = run([*command, "--write", "none", "--summary-json", "-"], {})
    return Run(json.loads(printed)["frames"], wall, cpu, peak, first_byte([*command, "--write", "raw"]))


def read_ffmpeg(threads: list[str], options: list[str], url: str) -> Run:
    """`-f null` takes the BGR frames and drops them: nothing is copied, nothing goes through a pipe."""
    command = ["ffmpeg", "-nostdin", "-v", "error", *threads, *options, "-i", url, "-map", "0:v:0"]
    command += ["-fps_mode", "passthrough", "-pix_fmt", "bgr24"]
    printed, wall, cpu, peak = run([*command, "-progress", "pipe:1", "-f", "null", "-"], {})
    frames = int(re.findall(r"^frame=\s*(\d+)", printed, re.MULTILINE)[-1])
    return Run(frames, wall, cpu, peak, first_byte([*command, "-f", "rawvideo", "pipe:1"]))


def read_python(reader: str, threads: str, url: str) -> Run:
    """This script again, as a child. What it took to load Python and its modules is left out, except from memory."""
    env = {"OPENCV_FFMPEG_CAPTURE_OPTIONS": "threads;1"} if threads == "1" else {}
    command = [sys.executable, __file__, "--child", reader, "--threads", threads, url]
    printed, _, cpu, peak = run(command, env)
    told = json.loads(printed)
    return Run(told["frames"], told["wall"], cpu - told["cpu_before"], peak, told["first_frame"])


def peers(program: Path, threads: str, with_keyframes: bool) -> list[Peer]:
    ffmpeg = ["-threads", "1", "-filter_threads", "1"] if threads == "1" else []
    found = [
        Peer("kvs-hls", functools.partial(read_kvs_hls, program, [])),
        Peer("ffmpeg", functools.partial(read_ffmpeg, ffmpeg, [])),
        Peer("OpenCV", functools.partial(read_python, "opencv", threads)),
        Peer("PyAV", functools.partial(read_python, "pyav", threads)),
    ]
    if with_keyframes:
        select, skip = ["--select", "keyframes"], ["-skip_frame", "nokey"]
        found += [
            Peer("kvs-hls, keyframes", functools.partial(read_kvs_hls, program, select), is_partial=True),
            Peer("ffmpeg, keyframes", functools.partial(read_ffmpeg, ffmpeg, skip), is_partial=True),
        ]
    return found


def opencv_frames(url: str, threads: str) -> Callable[[], Iterator[object]]:
    import cv2

    def frames() -> Iterator[object]:
        if threads == "1":
            cv2.setNumThreads(1)
        capture = cv2.VideoCapture(url, cv2.CAP_FFMPEG)
        while True:
            is_read, frame = capture.read()
            if not is_read:
                return
            yield frame

    return frames


def pyav_frames(url: str, threads: str) -> Callable[[], Iterator[object]]:
    import av

    def frames() -> Iterator[object]:
        with av.open(url) as container:
            stream = container.streams.video[0]
            if threads == "1":
                stream.codec_context.thread_count = 1
            for frame in container.decode(stream):
                yield frame.to_ndarray(format="bgr24")

    return frames


def child(reader: str, threads: str, url: str) -> None:
    """Counts the frames of a Python peer."""
    frames = {"opencv": opencv_frames, "pyav": pyav_frames}[reader](url, threads)
    cpu_before, started = time.process_time(), time.monotonic()
    count, first_frame = 0, 0.0
    for _ in frames():
        first_frame = first_frame or time.monotonic() - started
        count += 1
    wall = time.monotonic() - started
    print(json.dumps({"frames": count, "wall": wall, "first_frame": first_frame, "cpu_before": cpu_before}))


# --- Footage ---------------------------------------------------------------------------------------------------------


def ffmpeg(*options: str) -> None:
    subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-y", *options], check=True)


def package(footage: str, seconds: int, folder: Path) -> None:
    """Makes or takes footage, and cuts it into a VOD playlist with fMP4 segments of about two seconds."""
    folder.mkdir(parents=True)
    source = footage
    if footage in MADE:
        size, rate, options = MADE[footage]
        source = str(folder / "footage.mp4")
        picture = f"testsrc2=size={size}:rate=25:duration={seconds},noise=alls=6:allf=t,format=yuv420p"
        coding = ["-c:v", "libx264", "-profile:v", "high", "-g", "50", "-b:v", rate, "-maxrate", rate, "-bufsize", rate]
        ffmpeg("-f", "lavfi", "-i", picture, *coding, *options, source)
    muxing = ["-hls_time", "2", "-hls_playlist_type", "vod", "-hls_segment_type", "fmp4"]
    ffmpeg("-i", source, "-map", "0:v:0", "-c", "copy", "-f", "hls", *muxing, str(folder / "index.m3u8"))


class Handler(http.server.SimpleHTTPRequestHandler):
    """Files over HTTP/1.1, connections kept."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    """Readers that go away in the middle are no news."""

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def serve(folder: str) -> None:
    with Server(("127.0.0.1", 0), functools.partial(Handler, directory=folder)) as server:
        print(server.server_address[1], flush=True)
        server.serve_forever()


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """A server in a process of its own, so that its work is nobody's; its address."""
    command = [sys.executable, __file__, "--serve", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield f"http://127.0.0.1:{pipe(process).readline().strip()}"
    finally:
        process.terminate()
        process.wait()


# --- Results ---------------------------------------------------------------------------------------------------------


def measure(found: list[Peer], url: str, rounds: int, is_pinned: bool) -> dict[str, list[Run]]:
    runs: dict[str, list[Run]] = {peer.name: [] for peer in found}
    for turn in range(rounds):
        shift = turn % len(found)
        for peer in found[shift:] + found[:shift]:
            with pinned(is_pinned):
                result = peer.read(url)
            runs[peer.name].append(result)
            print(f"  round {turn + 1}: {peer.name}: {result.frames} frames in {result.wall:.2f} s", file=sys.stderr)
    return runs


def table(found: list[Peer], runs: dict[str, list[Run]]) -> str:
    own = runs[found[0].name]
    total = own[0].frames
    columns: list[tuple[str, str, Callable[[Run], float]]] = [
        ("frames/s", ".0f", lambda run: total / run.wall),
        ("CPU s per 1,000 frames", ".2f", lambda run: run.cpu * 1000 / total),
        ("peak memory, MB", ".0f", lambda run: run.peak_mb),
        ("first frame, ms", ".0f", lambda run: run.first_frame * 1000),
    ]
    lines = ["| | frames | " + " | ".join(title for title, _, _ in columns) + " |"]
    lines.append("| --- " * (len(columns) + 2) + "|")
    different = []
    for peer in found:
        counts = {run.frames for run in runs[peer.name]}
        is_different = not peer.is_partial and counts != {total}
        different += [peer.name] if is_different else []
        cells = [peer.name, "/".join(map(str, sorted(counts))) + (" (!)" if is_different else "")]
        for _, form, figure in columns:
            value, base = (median(map(figure, of)) for of in (runs[peer.name], own))
            cells.append(f"{value:{form}}" + (f" ({value / base:.2f})" if peer is not found[0] else ""))
        lines.append("| " + " | ".join(cells) + " |")
    if different:
        lines.append(f"\n(!) Not the {total} frames that kvs-hls gave: {', '.join(different)}. Do not compare.")
    return "\n".join(lines)


def versions(program: Path) -> str:
    said = [subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[0]
            for command in ([str(program), "--version"], ["ffmpeg", "-version"])]  # fmt: skip
    modules = [f"{name} {importlib.metadata.version(name)}" for name in ("opencv-python-headless", "av")]
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return ", ".join([
        said[0], said[1].split(" Copyright")[0], *modules, f"Python {platform.python_version()}",
        f"{os.cpu_count()} x {cpu[1] if cpu else platform.machine()}",
    ])  # fmt: skip


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="runs of each peer (default: 5)")
    parser.add_argument("--footage", action="append", metavar="WHAT",
                        help=f"{', '.join(MADE)} (made by ffmpeg; the default is all of them), or a file or URL with "
                             "H.264 that ffmpeg reads, which is not coded again; may be repeated")  # fmt: skip
    parser.add_argument("--seconds", type=int, default=20, metavar="N", help="length of what is made (default: 20)")
    parser.add_argument("--threads", choices=["auto", "1", "both"], default="both",
                        help="auto: each peer as a user gets it; 1: each with one decoding thread, on one CPU")  # fmt: skip
    parser.add_argument("--kvs-hls", type=Path, metavar="PATH", default=ROOT / "target/release/kvs-hls",
                        help="the program (default: target/release/kvs-hls)")  # fmt: skip
    parser.add_argument("--keyframes", action="store_true",
                        help="also decode key frames alone; their figures are for the whole footage")  # fmt: skip
    parser.add_argument("--child", choices=["opencv", "pyav"], help=argparse.SUPPRESS)
    parser.add_argument("--serve", metavar="FOLDER", help=argparse.SUPPRESS)
    parser.add_argument("url", nargs="?", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    args = options()
    if args.serve:
        return serve(args.serve)
    if args.child:
        return child(args.child, args.threads, args.url)
    if not args.kvs_hls.exists():
        sys.exit(f"{args.kvs_hls} is not there: cargo build --release --features cli")
    print(versions(args.kvs_hls))
    with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as address:
        for index, footage in enumerate(args.footage or MADE):
            print(f"{footage}: preparing", file=sys.stderr)
            package(footage, args.seconds, Path(folder, str(index)))
            for threads in ["auto", "1"] if args.threads == "both" else [args.threads]:
                found = peers(args.kvs_hls, threads, args.keyframes)
                runs = measure(found, f"{address}/{index}/index.m3u8", args.rounds, threads == "1")
                title = {"auto": "threads as a user gets them", "1": "one thread, one CPU"}[threads]
                print(f"\n{footage}, {title}, medians of {args.rounds} rounds\n\n{table(found, runs)}", flush=True)


if __name__ == "__main__":
    main()
