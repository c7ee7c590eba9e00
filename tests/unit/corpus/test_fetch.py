"""Clips by uri, from folders and from a real S3 server (moto) over HTTP."""

from pathlib import Path

import boto3
import pytest
from s3fs import S3FileSystem

from merlb_model.corpus.fetch import ClipTooLargeError, as_file, clip_place
from merlb_model.errors import MerlbError
from tests.s3 import bucket, s3_server  # noqa: F401  fixtures

ODD = "1_änn_a b#c?d%20::e[x]'\".mp4"


@pytest.mark.parametrize(
    ("uri", "clips", "expected"),
    [
        ("clips/1.mp4", None, "/raw/clips/1.mp4"),
        ("clips/1.mp4", "/elsewhere", "/elsewhere/1.mp4"),
        ("clips/1.mp4", "file:///elsewhere/", "/elsewhere/1.mp4"),
        ("clips/1.mp4", "s3://bucket/clips/", "s3://bucket/clips/1.mp4"),
        ("s3://bucket/a/1.mp4", None, "s3://bucket/a/1.mp4"),
        ("s3://bucket/a/1.mp4", "/elsewhere", "/elsewhere/1.mp4"),
    ],
)
def test_a_uri_and_the_clips_place_make_a_path_or_an_address(uri: str, clips: str | None, expected: str) -> None:
    assert clip_place(uri, Path("/raw"), clips) == expected


def test_a_clip_on_s3_is_fetched_whole_and_its_copy_goes(bucket: str, tmp_path: Path) -> None:  # noqa: F811
    content = bytes(range(256)) * 10_000
    boto3.client("s3").put_object(Bucket=bucket, Key=f"clips/{ODD}", Body=content)
    with as_file(f"s3://{bucket}/clips/{ODD}", tmp_path, 10_000_000) as path:
        assert path.read_bytes() == content
        assert path.parent == tmp_path
    assert list(tmp_path.iterdir()) == []


def test_a_clip_of_too_many_bytes_is_not_fetched(bucket: str, tmp_path: Path) -> None:  # noqa: F811
    boto3.client("s3").put_object(Bucket=bucket, Key="1.mp4", Body=bytes(1001))
    with pytest.raises(ClipTooLargeError, match="1001 bytes; expected at most 1000"):
        as_file(f"s3://{bucket}/1.mp4", tmp_path, 1000).__enter__()
    (tmp_path / "1.mp4").write_bytes(bytes(1001))
    with pytest.raises(ClipTooLargeError):
        as_file(str(tmp_path / "1.mp4"), tmp_path, 1000).__enter__()


def test_what_is_not_on_s3_is_missing_and_a_bucket_that_refuses_is_one_line(bucket: str, tmp_path: Path) -> None:  # noqa: F811
    with pytest.raises(FileNotFoundError):
        as_file(f"s3://{bucket}/none.mp4", tmp_path, 1000).__enter__()
    with pytest.raises(MerlbError, match=r"gopher://host/1\.mp4: "):
        as_file("gopher://host/1.mp4", tmp_path, 1000).__enter__()


def test_a_store_that_cannot_be_reached_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    S3FileSystem.clear_instance_cache()  # a process has one client a store, made from the environment of then
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(MerlbError, match=r"s3://other/1\.mp4: cannot be fetched: .*check the address"):
        as_file("s3://other/1.mp4", tmp_path, 1000).__enter__()
