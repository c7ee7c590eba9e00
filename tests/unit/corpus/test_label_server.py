from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from merlb_model.corpus.label import Labels
from merlb_model.corpus.label_server import create_app
from tests.unit.serving.running import running

NAMES = ["1_ann_x.mp4", "2_a 'b' \"c\" #?&%41_ż.mp4"]
STROKE = {"annotator": "ada", "file": NAMES[0], "task": "valence", "label": "neutral"}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    (folder / "clips").mkdir(parents=True)
    for number, name in enumerate(NAMES):
        (folder / "clips" / name).write_bytes(bytes([number]) * 1000)
    (folder / "secret.txt").write_text("secret")
    return folder


@pytest.fixture
def client(source: Path) -> Iterator[httpx.Client]:
    labels = Labels(source)
    with running(create_app(labels, source, "mine")) as client:
        yield client
    labels.close()


def test_a_clip_of_any_name_is_served_in_ranges(client: httpx.Client) -> None:
    for number, clip in enumerate(client.get("/api/source").json()["clips"]):
        part = client.get(clip["url"], headers={"Range": "bytes=10-19"})
        assert part.status_code == 206 and part.content == bytes([number]) * 10


@pytest.mark.parametrize(
    "path",
    ["secret.txt", "..%2Fsecret.txt", "../secret.txt", "%2e%2e%2fsecret.txt", "..%5Csecret.txt", "none.mp4", "%00"],
)
def test_nothing_but_the_clips_is_served(client: httpx.Client, path: str) -> None:
    answer = client.get(f"/clips/{path}")
    assert answer.status_code == 404 and "secret" not in answer.text


def test_a_link_out_of_the_folder_is_not_served(source: Path) -> None:
    (source.parent / "outside.mp4").write_bytes(b"outside")
    (source / "clips/3_eve_x.mp4").symlink_to(source.parent / "outside.mp4")
    labels = Labels(source)
    with running(create_app(labels, source, "mine")) as client:
        assert client.get("/clips/3_eve_x.mp4").status_code == 404
    labels.close()


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:{port}"},
        {"Host": "127.0.0.1:80"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Content-Type": "text/plain"},
    ],
)
def test_another_sites_page_can_neither_write_nor_be_led_here(
    client: httpx.Client, source: Path, headers: dict[str, str]
) -> None:
    headers = {name: text.replace("{port}", str(client.base_url.port)) for name, text in headers.items()}
    assert client.put("/api/label", json=STROKE, headers=headers).status_code == 403
    assert not (source / "labels/ada.csv").exists()


@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Sec-Fetch-Site": "cross-site"}])
def test_another_sites_page_cannot_read_clips(client: httpx.Client, headers: dict[str, str]) -> None:
    assert client.get(f"/clips/{NAMES[0]}", headers=headers).status_code == 403


def test_the_page_itself_may_write(client: httpx.Client, source: Path) -> None:
    headers = {"Origin": f"http://127.0.0.1:{client.base_url.port}", "Sec-Fetch-Site": "same-origin"}
    assert client.put("/api/label", json=STROKE, headers=headers).json() == {"former": None}
    assert (source / "labels/ada.csv").exists()


def test_a_wrong_stroke_is_one_line(client: httpx.Client) -> None:
    answer = client.put("/api/label", json={**STROKE, "label": "happy"})
    assert answer.status_code == 422 and "expected one of negative" in answer.json()["detail"]


def test_a_long_body_is_refused(client: httpx.Client) -> None:
    assert client.put("/api/label", json={**STROKE, "annotator": "x" * 20_000}).status_code == 403


def test_nothing_of_the_page_may_come_from_elsewhere(client: httpx.Client) -> None:
    page = client.get("/")
    assert page.status_code == 200 and "default-src 'none'" in page.headers["content-security-policy"]
    for file in ("/label.css", "/label.js"):
        answer = client.get(file)
        assert answer.status_code == 200 and "http" not in answer.text.replace("httpOnly", "")
