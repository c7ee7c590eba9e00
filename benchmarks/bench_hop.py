"""What a second of a live stream costs: its own second encoded and fused, against the whole window scored again.

Run after `make run`: it takes models/export.
"""

from pathlib import Path

import numpy as np
from interleaved import medians

from merlb_model.serving.scorer import Scorer


def main() -> None:
    scorer = Scorer.load(Path("models/export"))
    random = np.random.default_rng(7)
    face = random.integers(0, 256, (1, 20, 64, 64, 3), np.uint8)
    screen = random.integers(0, 256, (1, 20, 128, 128, 3), np.uint8)
    audio = random.integers(-3000, 3000, (1, 20, 5512), np.int16)
    all_there = np.ones((1, 3), np.float32)
    second = scorer.encode(face[:, :4], screen[:, :4], audio[:, :5])
    kept = {name: np.concatenate([values] * 4, axis=1) for name, values in second.items()}

    def hop() -> object:
        newest = scorer.encode(face[:, 16:], screen[:, 16:], audio[:, 15:])
        return scorer.fuse({name: np.concatenate([kept[name], newest[name]], axis=1) for name in kept}, all_there)

    new_second, whole = medians(hop, lambda: scorer.score(face, screen, audio), rounds=30)
    print("a hop of a live stream")
    print(
        f"  new second {1000 * new_second:.1f} ms, whole window {1000 * whole:.1f} ms: {new_second / whole:.2f} of it"
    )


if __name__ == "__main__":
    main()
