"""Clips into arrays: ``merlb extract`` against the original's procedure, in turn, on the same 720p30 H.264 clips.

The procedure, re-created from its description, a clip at a time: every frame up to the last one wanted read by OpenCV,
20 of them spread over the clip; the sound to a WAV file, read by ``librosa.load``; z-scored; three float64 ``.npy``
files. (The original has ffmpeg write the sound; PyAV does it here, in the process, which is quicker.)

Run: ``python benchmarks/bench_extract.py`` (about eight minutes); ``--clips`` and ``--rounds`` make it shorter.
"""

import argparse
import os
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import librosa
import numpy as np
import soundfile
from numpy.typing import NDArray

from merlb_model.corpus.annotations import LABEL_COLUMNS, write_rows
from merlb_model.corpus.ingest import ingest
from merlb_model.dataset.extract import extract
from merlb_model.files import write_json
from merlb_model.params import CorpusParams, ExtractParams, IngestParams
from merlb_model.processes import worker_pool

SIZE, FPS, SECONDS, SOUND_RATE = (1280, 720), 30, 5, 48_000
BOX = (920, 40, 1240, 280)
STEPS, SLICE, SAMPLE_RATE = 20, 5512, 22_050
LABELS = {"Valence_Neutral": "1", "Arousal_Neutral": "1", "Fighting": "1"}


def render(path: Path, seed: int) -> None:
    """A scene that pans behind moving things, and a noisy tone, encoded as streaming software does by default."""
    rng = np.random.default_rng(seed)
    width, height = SIZE
    scene = cv2.resize(rng.integers(0, 256, (60, 108, 3), dtype=np.uint8), (width + 448, height + 240))
    thing = cv2.resize(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8), (160, 160))
    times = np.arange(SECONDS * SOUND_RATE) / SOUND_RATE
    sound = 8000 * np.sin(2 * np.pi * (200 + 5 * seed) * times) + rng.normal(0, 300, len(times))
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=FPS, options={"preset": "veryfast", "crf": "23", "threads": "1"})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        audio = container.add_stream("aac", rate=SOUND_RATE, layout="stereo", bit_rate=160_000)
        for index in range(SECONDS * FPS):
            x, y = int(220 + 200 * np.sin(index / 30 + seed)), int(120 + 110 * np.cos(index / 23 + seed))
            pixels = scene[y : y + height, x : x + width].copy()
            left, top = int(500 + 450 * np.sin(index / 11 + seed)), int(280 + 250 * np.sin(index / 7))
            pixels[top : top + 160, left : left + 160] = thing
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        samples = np.repeat(sound.astype(np.int16), 2)
        for first in range(0, len(times), 1024):
            block = av.AudioFrame.from_ndarray(
                samples[None, 2 * first : 2 * (first + 1024)], format="s16", layout="stereo"
            )
            block.sample_rate, block.pts, block.time_base = SOUND_RATE, first, Fraction(1, SOUND_RATE)
            container.mux(audio.encode(block))
        container.mux(audio.encode(None))


def corpus(work: Path, clips: int) -> Path:
    source = work / "source"
    source.mkdir()
    names = [f"{number}_ann_x.mp4" for number in range(clips)]
    with worker_pool(os.cpu_count() or 1) as pool:
        list(pool.map(render, [source / name for name in names], range(clips)))
    write_rows(source / "annotations.csv", [{**dict.fromkeys(LABEL_COLUMNS, "0"), **LABELS, "File": n} for n in names])
    write_json(source / "webcam_boxes.json", {"ann": list(BOX)})
    ingest(CorpusParams(source="folder", path=str(source)), IngestParams(), work / "raw")
    return work / "raw"


# --- The original's procedure -----------------------------------------------------------------------------------------


def original_pictures(clip: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    capture = cv2.VideoCapture(str(clip))
    wanted = np.linspace(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) - 1, STEPS).astype(int)
    left, top, right, bottom = BOX
    faces, screens = [], []
    for index in range(int(wanted[-1]) + 1):
        read, frame = capture.read()
        if read and index in wanted:
            faces.append(cv2.resize(frame[top:bottom, left:right], (64, 64)))
            frame[top:bottom, left:right] = 0
            screens.append(cv2.resize(frame, (128, 128)))
    capture.release()
    return np.array(faces, np.float64), np.array(screens, np.float64)


def original_sound(clip: Path, scratch: Path) -> NDArray[np.float64]:
    with av.open(str(clip)) as container:
        resampler = av.AudioResampler(format="s16")
        blocks = [block.to_ndarray() for frame in container.decode(audio=0) for block in resampler.resample(frame)]
        stream = container.streams.audio[0]
        soundfile.write(scratch, np.concatenate(blocks, axis=1).reshape(-1, stream.channels), stream.rate)
    samples, _ = librosa.load(scratch, sr=SAMPLE_RATE, mono=True)
    samples = (samples - samples.mean()) / samples.std()
    slices = np.zeros((STEPS, SLICE))
    for step in range(STEPS):
        part = samples[step * SLICE : (step + 1) * SLICE]
        slices[step, : len(part)] = part
    return slices


def original(raw: Path, out: Path) -> None:
    out.mkdir()
    for clip in sorted((raw / "clips").iterdir()):
        faces, screens = original_pictures(clip)
        for name, array in (
            ("face", faces), ("screen", screens), ("audio", original_sound(clip, out.parent / "sound.wav")),
        ):  # fmt: skip
            np.save(out / f"{clip.stem}_{name}.npy", array)


# --- The measurement --------------------------------------------------------------------------------------------------


def measured(way: Callable[[Path], None], out: Path) -> tuple[float, float, int]:
    """Wall seconds and CPU seconds (of this process and its children) of ``way``, and the bytes of the arrays."""
    started, before = time.perf_counter(), cpu_seconds()
    way(out)
    taken = time.perf_counter() - started, cpu_seconds() - before
    size = sum(path.stat().st_size for path in out.rglob("*.npy"))
    shutil.rmtree(out)
    return *taken, size


def cpu_seconds() -> float:
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--clips", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        raw = corpus(work, chosen.clips)
        params = ExtractParams(workers=chosen.workers)
        ways: dict[str, Callable[[Path], None]] = {
            "original": lambda out: original(raw, out),
            "merlb": lambda out: extract(raw, params, out, None),
        }
        found: dict[str, list[tuple[float, float, int]]] = {name: [] for name in ways}
        for round_number in range(chosen.rounds):
            for name, way in ways.items():
                found[name].append(measured(way, work / "out"))
                wall, cpu, _ = found[name][-1]
                print(f"  round {round_number + 1}, {name}: {wall:.2f} s, CPU {cpu:.2f} s", flush=True)
    report(found, chosen.clips, chosen.workers)


def report(found: dict[str, list[tuple[float, float, int]]], clips: int, workers: int) -> None:
    middle = {name: [statistics.median(values) for values in zip(*taken, strict=True)] for name, taken in found.items()}
    print(f"{clips} clips of 5 s, 720p30; merlb with {workers} workers; medians of {len(found['merlb'])} rounds")
    print(f"{'':10} {'clips/s':>8} {'CPU s/clip':>11} {'bytes/clip':>11}")
    for name, (wall, cpu, size) in middle.items():
        print(f"{name:10} {clips / wall:8.2f} {cpu / clips:11.3f} {size / clips:11.0f}")
    theirs, ours = middle["original"], middle["merlb"]
    print(
        f"merlb: {theirs[0] / ours[0]:.2f} times the clips a second, {theirs[1] / ours[1]:.2f} times less CPU, "
        f"1/{theirs[2] / ours[2]:.1f} of the bytes"
    )


if __name__ == "__main__":
    main()
