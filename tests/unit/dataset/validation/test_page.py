import io
import re
from base64 import b64decode
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import sync_playwright

from merlb_model.dataset.split import split
from merlb_model.dataset.store import open_store, seal_store
from merlb_model.dataset.validate import validate
from merlb_model.dataset.validation.near_duplicates import NearDuplicate
from merlb_model.dataset.validation.page import pair_strips
from merlb_model.errors import MerlbError
from merlb_model.params import SplitParams, ValidateParams
from tests.unit.dataset.small_stores import write_noisy_store

HOSTILE = "<script>alert(1)</script>"


class Elements(HTMLParser):
    """The page's elements with their attributes, and the text in them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for found, attributes in self.found if found == tag]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a store with a copy in two splits, a frozen, a black and a silent clip, and a hostile name."""
    work = tmp_path_factory.mktemp("page")
    write_noisy_store(work / "store", 6, 3)
    store = open_store(work / "store")
    face, screen, audio = (
        np.load(work / "store" / f"{name}.npy", mmap_mode="r+") for name in ("face", "screen", "audio")
    )
    for array in (face, screen, audio):
        array[17] = array[0]
    face[1], screen[2], audio[3] = face[1, 0], 0, 0
    files = [*store.clips["file"][:-1], f"9999_s05_{HOSTILE}.mp4"]
    meta = {"annotated": 19, "quarantined": {"undecodable": 1}, "source": "sample"}
    seal_store(work / "store", store.arrays, store.clips.assign(file=files), meta)
    split(work / "store", SplitParams(seed=1), work / "splits.parquet")
    with pytest.raises(MerlbError, match="no clip has a near-duplicate in another split"):
        params = ValidateParams(maximum_silent=0)
        validate(work / "store", work / "splits.parquet", params, work / "validation.json", work / "validation.html")
    return work / "validation.html"


def test_it_needs_nothing_beside_it_and_runs_nothing(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    elements = Elements(text)
    assert not elements.all("script") and not elements.all("link")
    assert not re.search(r"url\(|@import", text)
    assert all(str(image["src"]).startswith("data:image/jpeg;base64,") for image in elements.all("img"))
    assert "default-src 'none'" in str(elements.all("meta"))


def test_what_is_broken_comes_first_and_hostile_names_are_text(page: Path) -> None:
    elements = Elements(page.read_text(encoding="utf-8"))
    text = elements.text
    assert "No. 1 hard rule is broken" in text and HOSTILE in text
    order = [text.index(rule) for rule in ("no clip has a near-duplicate", "few clips with silent", "enough clips")]
    assert order == sorted(order)
    assert "quarantined: undecodable" in text and "the sample corpus" in text


def test_each_defect_is_shown_with_its_frames(page: Path) -> None:
    elements = Elements(page.read_text(encoding="utf-8"))
    for heading in ("Silent audio: 1 clip", "Black screen: 1 clip", "Frozen face: 1 clip"):
        assert heading in elements.text
    assert len(elements.all("img")) == 2 + 3  # two strips a pair, one a defective clip


def picture(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(b64decode(uri.split(",")[1])))).astype(int)


@pytest.mark.parametrize("offset", [0.0, 1.25, -2.5, 1.3])
def test_frames_of_a_pair_stand_above_those_of_the_same_time(tmp_path: Path, offset: float) -> None:
    write_noisy_store(tmp_path / "store", 1, 2)
    screen = np.load(tmp_path / "store" / "screen.npy", mmap_mode="r+")
    shift = round(offset / 0.25)
    screen[0] = (10 * np.arange(20) + 20)[:, None, None, None]
    screen[1] = (10 * (np.arange(20) + shift) + 20).clip(0, 255)[:, None, None, None]
    first, second = pair_strips(open_store(tmp_path / "store"), NearDuplicate(0, 1, offset, 0.0, None))
    above, below = (picture(strip)[64] for strip in (first, second))
    middles = [64 + 260 * index for index in range(5)]  # of the screens: 128 wide, a face of 128 and a gap of 4 beside
    assert above.shape == (5 * 256 + 4 * 4, 3)
    assert abs(above[middles] - below[middles]).max() <= 3
    assert abs(above[middles[-1]] - above[middles[0]]).min() >= 10 * (19 - abs(shift)) - 3


@pytest.mark.parametrize("width", [390, 1200])
def test_a_browser_shows_it_without_a_complaint_and_nothing_sticks_out(page: Path, width: int) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        try:
            tab = browser.new_page(viewport={"width": width, "height": 800})
            said: list[str] = []
            tab.on("console", lambda message: said.append(message.text))
            tab.on("pageerror", lambda error: said.append(str(error)))
            tab.goto(page.as_uri())
            assert said == []
            assert tab.evaluate("document.documentElement.scrollWidth") <= width
            assert tab.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
            assert tab.locator(".pair.across").count() == 1
            assert tab.locator("details").get_attribute("open") is None
            assert tab.locator("svg.bars rect").count() > 0
        finally:
            browser.close()
