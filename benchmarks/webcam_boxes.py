"""How near webcams are found: rendered streamers with their boxes withheld, and a real face at three sizes.

Renders the streamers (minutes), looks for their webcams as `merlb ingest` does, and prints the share within 5 pixels on
all four sides and the seconds a streamer; then the same for scikit-image's astronaut at 60, 90 and 140 pixels over
photographs that pan, zoom and cut, under the panels of a game. Leaves nothing but what --keep names.
"""

import argparse
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from real_faces import Overlay, write_composite

from merlb_model.corpus import sample
from merlb_model.corpus.webcam_sheet import draw_sheet, tiles_of
from merlb_model.corpus.webcams import Clip, find_webcams, first_frames, in_workers
from merlb_model.media.webcam_boxes import Webcam, given, read_webcams
from merlb_model.media.windows import Box
from merlb_model.params import CorpusParams, IngestParams

FACES = (60, 90, 140)
PLACES = ((0, 0), (17, 260), (580, 60), (640, 200))
PIXELS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description="How near webcams are found whose boxes are withheld.")
    parser.add_argument("--streamers", type=int, default=100, help="rendered (100)")
    parser.add_argument("--clips", type=int, default=2, help="of each streamer (2)")
    parser.add_argument("--workers", type=int, default=0, help="processes (one a core)")
    parser.add_argument("--keep", type=Path, help="a folder to keep clips and contact sheets in")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = options.keep or Path(temporary)
        rendered(work / "rendered", options.streamers, options.clips, options.workers)
        astronaut(work / "astronaut", options.workers)


def rendered(folder: Path, streamers: int, clips: int, workers: int, fps: int = 20) -> float:
    """Print and return the share of rendered streamers whose webcam is found within 5 pixels on all sides."""
    if not (folder / "webcam_boxes.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        sample.render(folder, CorpusParams(streamers=streamers, clips_per_streamer=clips, seed=11, fps=fps), workers)
    truth = {name: webcam.places[0].box for name, webcam in read_webcams(folder / "webcam_boxes.json").items()}
    errors = measured(folder, truth, workers)
    share = float((errors <= PIXELS).mean())
    print(
        f"rendered: {share:.1%} of {len(errors)} streamers within {PIXELS} px, {(errors <= 2).mean():.1%} within 2 px"
    )
    return share


def astronaut(folder: Path, workers: int) -> "pd.Series[float]":
    """Print and return the largest error of a side, in pixels, by size of the face and place of the webcam."""
    truth = {}
    folder.joinpath("clips").mkdir(parents=True, exist_ok=True)
    for face in FACES:
        for place, corner in enumerate(PLACES):
            name, overlay = f"face{face}-{place}", Overlay(face, corner)
            truth[name] = overlay.box
            for clip in range(2):
                path = folder / "clips" / f"{clip}_{name}_x.mp4"
                if not path.exists():
                    write_composite(path, overlay, seed=100 * face + 10 * place + clip)
    errors = measured(folder, truth, workers)
    for face in FACES:
        of_it = [errors[f"face{face}-{place}"] for place in range(len(PLACES))]
        print(f"astronaut, face of {face} px: errors at {len(of_it)} places {', '.join(f'{e:g}' for e in of_it)} px")
    return errors


def measured(folder: Path, truth: Mapping[str, Box], workers: int) -> "pd.Series[float]":
    """The largest error of a side for each streamer, infinite where none is found; draw the contact sheet."""
    clips: dict[str, list[Clip]] = {}
    for path in sorted((folder / "clips").iterdir()):
        clips.setdefault(path.stem.split("_")[1], []).append(Clip(path.name, path.name, path))
    started = time.monotonic()
    with in_workers(workers) as mapped:
        webcams = find_webcams(clips, {}, IngestParams(), None, mapped)
        frames = first_frames({(name, ""): theirs[0] for name, theirs in clips.items()}, mapped)
    print(f"{(time.monotonic() - started) / len(clips):.2f} s a streamer of {len(next(iter(clips.values())))} clips")
    draw_sheet(tiles_of(webcams, frames), folder)
    errors = pd.Series({name: error_of(webcam, given(truth[name])) for name, webcam in webcams.items()})
    for name in errors[errors > PIXELS].index:
        print(f"  off: {name}: {[place.box for place in webcams[name].places]}, it is {truth[name]}")
    return errors


def error_of(webcam: Webcam, truth: Webcam) -> float:
    """The largest error of a side in pixels; infinite for a webcam that was not found, or found at two places."""
    if len(webcam.places) != 1:
        return float("inf")
    return float(np.abs(np.array(webcam.places[0].box) - truth.places[0].box).max())


if __name__ == "__main__":
    main()
