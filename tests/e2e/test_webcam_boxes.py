"""The benchmark of webcam boxes, at its full number of streamers."""

from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import webcam_boxes

    return webcam_boxes


@pytest.mark.hours
@pytest.mark.timeout(1800)
def test_webcams_of_95_in_100_rendered_streamers_are_found_within_5_pixels(benchmark: Any, tmp_path: Path) -> None:
    assert benchmark.rendered(tmp_path, streamers=100, clips=2, workers=0, fps=10) >= 0.95


@pytest.mark.hours
@pytest.mark.timeout(1800)
def test_webcams_with_a_real_face_of_60_90_and_140_pixels_are_found(benchmark: Any, tmp_path: Path) -> None:
    assert benchmark.astronaut(tmp_path, workers=0).max() <= 5
