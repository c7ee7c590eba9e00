"""The labelling page in a real browser, with a real server that is killed."""

import csv
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from merlb_model.corpus.annotations import read_annotations, read_rows
from merlb_model.labels import TASKS
from tests.live_source import write_stream

ROOT = Path(__file__).parents[2]
WAIT_MS = 120_000
KEYS = {"valence": "qwe", "arousal": "asd", "event": "12345678"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(WAIT_MS)
    expect.set_options(timeout=WAIT_MS)
    yield context.new_page()
    context.close()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_stream(tmp_path_factory.mktemp("clip") / "clip.mp4", 5, options={"movflags": "faststart"}).read_bytes()


@pytest.fixture
def source(tmp_path: Path, clip: bytes) -> Path:
    """20 clips."""
    folder = tmp_path / "data/sources/mine"
    (folder / "clips").mkdir(parents=True)
    for number in range(1, 21):
        (folder / "clips" / f"{number}_ann_x.mp4").write_bytes(clip)
    return folder


class LabelServer:
    """``merlb label mine`` as a process."""

    def __init__(self, workspace: Path, port: int = 0) -> None:
        command = [sys.executable, "-m", "merlb_model.cli", "-w", str(workspace), "label", "mine", "--no-browser"]
        self._process = subprocess.Popen(
            [*command, "--port", str(port)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert self._process.stdout
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", self._process.stdout.readline())
        assert found
        self.port = int(found[1])
        self.address = found[0]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self._process.send_signal(number)
        return self._process.wait(60)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., LabelServer]]:
    started: list[LabelServer] = []

    def begin(port: int = 0) -> LabelServer:
        started.append(LabelServer(tmp_path, port))
        return started[-1]

    yield begin
    for server in started:
        server.stop(signal.SIGKILL)


def log_in(page: Page, address: str, name: str) -> None:
    page.goto(address)
    page.locator("#annotator").fill(name)
    page.keyboard.press("Enter")
    expect(page.locator("#ask")).to_be_hidden()


def wait_until(page: Page, expression: str) -> None:
    """As the browser's own ``wait_for_function``, which evaluates in the page: the page's policy forbids it."""
    deadline = time.monotonic() + WAIT_MS / 1000
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, f"never true: {expression}"
        page.wait_for_timeout(50)


def saved(page: Page) -> None:
    expect(page.locator("body")).to_have_attribute("data-saved", "yes")


def key_of(task: str, clip: int) -> tuple[str, str]:
    """What is answered for clip number ``clip`` (from 0), and the key for it: every class in turn."""
    index = clip % len(TASKS[task])
    return TASKS[task][index], KEYS[task][index]


def press_all_tasks(page: Page, clip: int) -> None:
    for task in TASKS:
        page.keyboard.press(key_of(task, clip)[1])


def labels_of(source: Path, annotator: str) -> dict[str, dict[str, str]]:
    with (source / "labels" / f"{annotator}.csv").open(encoding="utf-8", newline="") as file:
        return {row.pop("File"): row for row in csv.DictReader(file)}


def expected_row(clip: int) -> dict[str, str]:
    return {task.capitalize(): key_of(task, clip)[0] for task in TASKS}


def test_20_clips_by_keyboard_and_nothing_lost_when_the_server_is_killed(page, source, start) -> None:
    server = start()
    log_in(page, server.address, "Ada Ł'\"")
    for clip in range(12):
        expect(page.locator("#file")).to_have_text(f"{clip + 1}_ann_x.mp4")
        press_all_tasks(page, clip)
    page.keyboard.press(key_of("valence", 12)[1])
    saved(page)
    server.stop(signal.SIGKILL)
    before = labels_of(source, "Ada Ł'\"")
    assert before == {f"{clip + 1}_ann_x.mp4": expected_row(clip) for clip in range(12)} | {
        "13_ann_x.mp4": {**expected_row(12), "Arousal": "", "Event": ""}
    }
    page.keyboard.press(key_of("arousal", 12)[1])  # nobody is there to take it
    expect(page.locator("#trouble")).to_contain_text("1 answer(s) not saved yet")
    start(server.port)
    saved(page)  # the page has tried on by itself
    expect(page.locator("#trouble")).to_be_hidden()
    page.keyboard.press(key_of("event", 12)[1])
    for clip in range(13, 20):
        expect(page.locator("#file")).to_have_text(f"{clip + 1}_ann_x.mp4")
        press_all_tasks(page, clip)
    saved(page)
    expect(page.locator("#count")).to_have_text("20 of 20 labelled")
    kept, rejected = read_annotations(source / "annotations.csv")
    assert not rejected
    assert {row.file: dict(row.labels) for row in kept} == {
        f"{clip + 1}_ann_x.mp4": {task: key_of(task, clip)[0] for task in TASKS} for clip in range(20)
    }
    if out := os.environ.get("MERLB_SCREENSHOT"):
        page.screenshot(path=out)


def test_undo_takes_back_stroke_by_stroke_even_after_a_reload(page, source, start) -> None:
    server = start()
    log_in(page, server.address, "ada")
    press_all_tasks(page, 0)
    page.keyboard.press("w")
    saved(page)
    page.reload()
    expect(page.locator("#annotator")).to_be_focused()
    page.keyboard.press("Enter")  # the name is remembered
    expect(page.locator("#file")).to_have_text("2_ann_x.mp4")
    page.keyboard.press("Backspace")
    page.keyboard.press("Backspace")
    expect(page.locator("#file")).to_have_text("1_ann_x.mp4")
    saved(page)
    assert labels_of(source, "ada") == {"1_ann_x.mp4": {**expected_row(0), "Event": ""}}
    assert read_rows(source / "annotations.csv")[0]["Routing"] == ""


def test_the_clip_plays_and_can_be_sought(page, source, start) -> None:
    log_in(page, start().address, "ada")
    wait_until(page, "document.getElementById('video').readyState >= 2")
    assert page.evaluate("document.getElementById('video').duration") == pytest.approx(5, abs=0.1)
    # Paused: on a busy machine it could play to its end and begin again between two looks at it.
    page.evaluate("document.getElementById('video').pause(); document.getElementById('video').currentTime = 4")
    wait_until(page, "!document.getElementById('video').seeking && document.getElementById('video').currentTime > 3")


@pytest.mark.slow
def test_every_class_has_a_button_and_the_page_needs_nothing_from_elsewhere(page, source, start) -> None:
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    server = start()
    log_in(page, server.address, "ada")
    for task, classes in TASKS.items():
        for label in classes:
            page.get_by_role("group", name=task).get_by_role("button", name=re.compile(rf"\b{label}$")).click()
            page.keyboard.press("ArrowLeft")
            page.keyboard.press("Home")
    saved(page)
    assert all(url.startswith((server.address, "data:")) for url in asked)
    assert complaints == []


@pytest.mark.slow
def test_two_annotators_do_not_see_each_other_but_their_agreement(page, source, start) -> None:
    server = start()
    for name in ("ada", "bob"):
        log_in(page, server.address, name)
        expect(page.locator("#count")).to_have_text("0 of 20 labelled")
        for clip in range(4):
            expect(page.locator("#file")).to_have_text(f"{clip + 1}_ann_x.mp4")
            press_all_tasks(page, clip)
        saved(page)
    expect(page.locator("#agreement tbody tr").first).to_have_text(re.compile(r"valence\s*4\s*1\.00\s*1\.00"))
