import gzip
import io
import os
import random
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from merlb_model.corpus.archives import is_archive, unpack
from merlb_model.errors import MerlbError
from merlb_model.params import IngestParams

Make = Callable[[Path, str, bytes], Path]


def make_zip(archive: Path, name: str, content: bytes = b"film") -> Path:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("1_ann_x.mp4", b"film of ann")
        file.writestr(name, content)
    return archive


def make_tar(archive: Path, name: str, content: bytes = b"film", **header: object) -> Path:
    with tarfile.open(archive, "w:gz") as file:
        for member, data in (("1_ann_x.mp4", b"film of ann"), (name, content)):
            info = tarfile.TarInfo(member)
            info.size = len(data)
            for key, value in header.items() if member == name else ():
                setattr(info, key, value)
            file.addfile(info, io.BytesIO(data))
    return archive


def take(archive: Path, **params: float) -> dict[str, bytes]:
    """What is unpacked, by path."""
    out = archive.parent / "out"
    unpack(archive, out, IngestParams(**params), wanted=lambda name: name.endswith((".mp4", ".csv")))
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def refusal(archive: Path, **params: float) -> str:
    """The one line with which the archive is refused; nothing may be written beside ``out``."""
    before = sorted(archive.parent.iterdir())
    with pytest.raises(MerlbError) as caught:
        take(archive, **params)
    assert "\n" not in str(caught.value) and str(archive) in str(caught.value)
    assert sorted(path for path in archive.parent.iterdir() if path.name != "out") == before
    return str(caught.value)


BOTH = pytest.mark.parametrize(("make", "archive"), [(make_zip, "a.zip"), (make_tar, "a.tgz")])


@BOTH
def test_wanted_files_are_unpacked_whole_and_others_left(tmp_path: Path, make: Make, archive: str) -> None:
    found = take(make(tmp_path / archive, "LoLs/ä b/2_bob_x.mp4", b"x" * 3_000_000), archive_ratio=10_000)
    assert found == {"1_ann_x.mp4": b"film of ann", "LoLs/ä b/2_bob_x.mp4": b"x" * 3_000_000}
    (tmp_path / "more").mkdir()
    assert set(take(make(tmp_path / "more" / archive, "setup.exe", b""))) == {"1_ann_x.mp4"}


@BOTH
@pytest.mark.parametrize(
    "name", ["../2.mp4", "a/../../2.mp4", "/tmp/2.mp4", "..\\2.mp4", "C:/2.mp4", "a/..", "../outside/"]
)
def test_a_path_out_of_the_archive_is_refused_and_named(tmp_path: Path, make: Make, archive: str, name: str) -> None:
    said = refusal(make(tmp_path / archive, name, b""))
    assert "its name leads out of the archive" in said and repr(name.rstrip("/"))[:-1] in said


@BOTH
def test_a_name_too_long_for_a_disk_is_refused(tmp_path: Path, make: Make, archive: str) -> None:
    assert "longer than file systems take" in refusal(make(tmp_path / archive, "a" * 300 + ".mp4", b""))


@BOTH
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_file_twice_is_refused(tmp_path: Path, make: Make, archive: str) -> None:
    assert "'1_ann_x.mp4': it is there twice" in refusal(make(tmp_path / archive, "1_ann_x.mp4", b"other"))


@BOTH
def test_a_file_and_a_folder_of_one_name_are_refused(tmp_path: Path, make: Make, archive: str) -> None:
    assert "1_ann_x.mp4/2.mp4" in refusal(make(tmp_path / archive, "1_ann_x.mp4/2.mp4", b""))


# --- Links and devices ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE])
def test_links_pipes_and_devices_in_a_tar_are_refused(tmp_path: Path, kind: bytes) -> None:
    archive = make_tar(tmp_path / "a.tar.gz", "2.mp4", b"", type=kind, linkname="/etc/passwd")
    assert "'2.mp4': it is a link, a device or a sparse file" in refusal(archive)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_pipes_and_devices_in_a_zip_are_refused(tmp_path: Path, kind: int) -> None:
    info = zipfile.ZipInfo("2.mp4")
    info.external_attr = (kind | 0o644) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr(info, "/etc/passwd")
    assert "'2.mp4': it is a link or a device" in refusal(tmp_path / "a.zip")


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", "2.mp4")
    content = bytearray(archive.read_bytes())
    entry = content.rindex(b"PK\x01\x02")
    content[entry + 8] |= 1  # the flag in the central directory
    archive.write_bytes(content)
    assert "'2.mp4': it is encrypted" in refusal(archive)


# --- Bombs ------------------------------------------------------------------------------------------------------------


@BOTH
def test_a_bomb_is_refused_by_its_ratio_before_it_is_written(tmp_path: Path, make: Make, archive: str) -> None:
    said = refusal(make(tmp_path / archive, "bomb.mp4", bytes(20_000_000)))
    assert "'bomb.mp4': it grows to" in said
    assert not (tmp_path / "out" / "bomb.mp4").exists()


@BOTH
def test_a_bomb_is_refused_by_its_size(tmp_path: Path, make: Make, archive: str) -> None:
    said = refusal(make(tmp_path / archive, "bomb.mp4", os.urandom(2_000_000)), archive_gigabytes=0.001)
    assert "'bomb.mp4': with it 0.0 GB would be unpacked" in said


@BOTH
def test_a_bomb_is_refused_by_its_members(tmp_path: Path, make: Make, archive: str) -> None:
    assert "'2.mp4': it is member 2" in refusal(make(tmp_path / archive, "2.mp4", b""), archive_members=1)


@BOTH
def test_a_bomb_of_many_small_files_is_refused(tmp_path: Path, make: Make, archive: str) -> None:
    if archive == "a.zip":
        with zipfile.ZipFile(tmp_path / archive, "w", zipfile.ZIP_DEFLATED) as file:
            for number in range(40):
                file.writestr(f"{number}.mp4", bytes(200_000))
    else:
        with tarfile.open(tmp_path / archive, "w:gz") as tar:
            for number in range(40):
                info = tarfile.TarInfo(f"{number}.mp4")
                info.size = 200_000
                tar.addfile(info, io.BytesIO(bytes(200_000)))
    assert "it grows to" in refusal(tmp_path / archive)


def test_a_header_that_claims_gigabytes_is_refused_unread(tmp_path: Path) -> None:
    # tarfile would read the whole of an extended header into memory.
    info = tarfile.TarInfo("././@PaxHeader")
    info.type, info.size = tarfile.XHDTYPE, 4 << 30
    with gzip.open(tmp_path / "a.tgz", "wb") as file:
        file.write(info.tobuf(tarfile.GNU_FORMAT))
    assert "a header of 4294967296 bytes" in refusal(tmp_path / "a.tgz")


def test_a_negative_size_is_refused_and_does_not_go_round_for_ever(tmp_path: Path) -> None:
    header = bytearray(tarfile.TarInfo("2.txt").tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 10 + struct.pack(">h", -512)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    (tmp_path / "a.tar").write_bytes(bytes(header) + bytes(1024))
    assert "'2.txt': it is a link, a device or a sparse file" in refusal(tmp_path / "a.tar")


def test_a_long_chain_of_headers_is_refused(tmp_path: Path) -> None:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 2
    block = info.tobuf(tarfile.GNU_FORMAT) + b"a\0".ljust(512, b"\0")
    (tmp_path / "a.tar").write_bytes(block * 3000)
    assert "expected a whole" in refusal(tmp_path / "a.tar")


# --- Damage -----------------------------------------------------------------------------------------------------------


@BOTH
def test_half_an_archive_is_refused(tmp_path: Path, make: Make, archive: str) -> None:
    whole = make(tmp_path / archive, "2.mp4", os.urandom(100_000))
    whole.write_bytes(whole.read_bytes()[:50_000])
    assert "fetch it again" in refusal(whole)


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x05\x06", b"\x1f\x8b"])
@pytest.mark.parametrize("name", ["a.zip", "a.tgz", "a.tar"])
def test_what_is_no_archive_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert "expected a whole .zip, .tar or .tar.gz" in refusal(tmp_path / name)


@BOTH
def test_no_mutant_ends_in_anything_but_one_line(tmp_path: Path, make: Make, archive: str) -> None:
    whole = make(tmp_path / archive, "LoLs/2.mp4", b"some film " * 30).read_bytes()
    content = whole if archive == "a.zip" else gzip.decompress(whole)
    dice = random.Random(5)
    for number in range(150):
        mutant = bytearray(content)
        for _ in range(dice.randint(1, 6)):
            mutant[dice.randrange(len(mutant))] = dice.choice([0, 0xFF, dice.randrange(256)])
        if dice.random() < 0.2:
            del mutant[dice.randrange(len(mutant)) :]
        place = tmp_path / str(number)
        place.mkdir()
        (place / ("a.zip" if archive == "a.zip" else "a.tar")).write_bytes(mutant)
        try:
            take(next(place.iterdir()))
        except MerlbError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize(("name", "taken"), [("A.ZIP", True), ("a.tar.gz", True), ("a.gz", False), ("a.mp4", False)])
def test_an_archive_is_known_by_its_name(name: str, taken: bool) -> None:
    assert is_archive(Path(name)) == taken
