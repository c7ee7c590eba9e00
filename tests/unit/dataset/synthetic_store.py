"""A clip store made of random labels, for tests that read no pixel."""

from pathlib import Path

import numpy as np
import pandas as pd

from merlb_model.dataset.store import create_arrays, seal_store
from merlb_model.labels import TASKS


def write_store(folder: Path, streamers: int, clips_each: int, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    count = streamers * clips_each
    folder.mkdir(parents=True)
    clips = pd.DataFrame(
        {
            "file": [f"{index:04d}_s{index // clips_each:02d}_x.mp4" for index in range(count)],
            "streamer": [f"s{index // clips_each:02d}" for index in range(count)],
            "game": "",
            "table": ["training" if index % 5 else "testing" for index in range(count)],
            **{task: rng.choice(classes, count) for task, classes in TASKS.items()},
            **{f"present_{name}": True for name in ("face", "screen", "audio")},
            "valid_frames": 20,
        }
    )
    meta = {"annotated": count, "quarantined": {}, "source": "folder"}
    seal_store(folder, create_arrays(folder, count), clips, meta)
    return folder
