from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
import zlib
from typing import TYPE_CHECKING, Any

import pytest

from sandbox_api.local.archive import ArchiveError, pack
from sandbox_api.local.files import open_folder
from sandbox_api.local.limits import Limits
from sandbox_api.local.unpack import Unpacker

from .conftest import Client, archive, special

if TYPE_CHECKING:
    from pathlib import Path

LINK, SYMLINK, DIRECTORY = tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE


def damaged(content: bytes) -> bytes:
    """Return an archive whose second header is damaged."""
    plain = bytearray(gzip.decompress(content))
    plain[1024 + 150] ^= 1
    return gzip.compress(bytes(plain))


def long_name(size: int) -> bytes:
    """Return an archive that announces a name of many bytes, and has them."""
    header = special("././@LongLink", tarfile.GNUTYPE_LONGNAME, size=size).tobuf(tarfile.GNU_FORMAT)
    packer = zlib.compressobj(wbits=31)
    parts = [packer.compress(header)]
    parts += [packer.compress(bytes(2**20)) for _ in range(size // 2**20)]
    return b"".join(parts) + packer.flush()


@pytest.mark.parametrize(
    ("upload", "reason"),
    [
        pytest.param(b"", "empty file", id="nothing"),
        pytest.param(b"text", "Not a gzipped file", id="text"),
        pytest.param(gzip.decompress(archive(("a", b"a"))), "Not a gzipped file", id="plain tar"),
        pytest.param(gzip.compress(b"text"), "gzipped tar", id="gzip of text"),
        pytest.param(archive(("a", b"a"))[:-20], "ended before", id="truncated"),
        pytest.param(damaged(archive(("a", b"a"), ("b", b"b"))), "damaged", id="damaged header"),
        pytest.param(long_name(64 * 2**20), "headers is too long", id="endless name"),
        pytest.param(archive(("/etc/passwd", b"")), "does not stay", id="absolute name"),
        pytest.param(archive(("../a", b"")), "does not stay", id="dots"),
        pytest.param(archive(("a/b/../../../c", b"")), "does not stay", id="dots within"),
        pytest.param(archive(("a" * 5000, b"")), "does not stay", id="longest name"),
        pytest.param(archive(("a" * 300, b"")), "cannot be unpacked", id="long name"),
        pytest.param(archive(special("d", tarfile.CHRTYPE)), "neither", id="device"),
        pytest.param(archive(special("d", tarfile.BLKTYPE)), "neither", id="disk"),
        pytest.param(archive(special("d", tarfile.FIFOTYPE)), "neither", id="named pipe"),
        pytest.param(archive(special("l", SYMLINK, "/etc")), "leads out", id="absolute link"),
        pytest.param(archive(special("l", SYMLINK, "../x")), "leads out", id="link with dots"),
        pytest.param(archive(special("l", SYMLINK, "/home/student/../x")), "leads out", id="both"),
        pytest.param(archive(special("l", LINK, "/etc/passwd")), "does not stay", id="hard link"),
        pytest.param(archive(special("l", LINK, "../../x")), "does not stay", id="hard, dots"),
        pytest.param(archive(special("l", LINK, "none")), "cannot be", id="hard link to nothing"),
        pytest.param(
            archive(special("d", DIRECTORY), special("l", LINK, "d")), "not to a file", id="hard"
        ),
        pytest.param(
            archive(special("s", SYMLINK, "x"), special("l", LINK, "s")), "not to a file", id="soft"
        ),
        pytest.param(
            archive(special("d", SYMLINK, "e"), special("e", DIRECTORY), ("d/f", b"")),
            "cannot be unpacked",
            id="through a link",
        ),
        pytest.param(archive(("f", b""), ("f/g", b"")), "cannot be unpacked", id="through a file"),
        pytest.param(
            archive(special("d", DIRECTORY), ("d", b"")), "cannot be unpacked", id="over a folder"
        ),
        pytest.param(archive(special("big", tarfile.REGTYPE)), "", id="harmless"),
    ],
)
def test_an_upload_that_can_not_be_used_is_refused(
    client: Client, upload: bytes, reason: str
) -> None:
    response = client.ask("true", upload=upload)
    if not reason:
        assert response.status_code == 200
        return
    assert response.status_code == 400
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.text.startswith("The environment cannot be used: ")
    assert reason in response.text
    assert client.left() == []


def unpack(folder: Path, content: bytes, **bounds: Any) -> None:
    limits = Limits(**bounds)
    Unpacker(folder, limits, None).unpack(io.BytesIO(content), trusted=False)


def test_an_archive_that_holds_too_many_bytes_is_refused(tmp_path: Path) -> None:
    bomb = archive(("a", bytes(600)), ("b", bytes(600)))
    unpack(tmp_path, bomb, unpacked_size=1200)
    with pytest.raises(ArchiveError, match="more than 1000 bytes"):
        unpack(tmp_path, bomb, unpacked_size=1000)


def test_an_archive_of_too_many_members_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="more than 9 members"):
        unpack(tmp_path, archive(*[(str(number), b"") for number in range(10)]), members=9)


def test_a_name_of_too_many_folders_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="more than 9 members"):
        unpack(tmp_path, archive(("d/" * 10 + "f", b"")), members=9)


def test_folders_that_are_members_count_once(tmp_path: Path) -> None:
    # Else what was saved could not be used.
    folders = [special(f"a/b{number}", DIRECTORY) for number in range(8)]
    unpack(tmp_path, archive(special("a", DIRECTORY), *folders), members=9)
    assert len(os.listdir(tmp_path / "a")) == 8
    with pytest.raises(ArchiveError, match="more than 9 members"):
        unpack(tmp_path / "a", archive(*folders, ("c", b"")), members=9)


def test_many_names_of_many_folders_are_neither_unpacked_nor_packed(tmp_path: Path) -> None:
    deep = [(f"{'d/' * 55}{number}", b"") for number in range(40)]
    with pytest.raises(ArchiveError, match="too many folders"):
        unpack(tmp_path, archive(*deep), members=100)
    unpack(tmp_path, archive(*deep), members=200)
    root = open_folder(tmp_path)
    try:
        with pytest.raises(ArchiveError, match="too many folders"):
            pack(root, io.BytesIO(), Limits(members=100))
        pack(root, io.BytesIO(), Limits(members=200))
    finally:
        os.close(root)


def test_what_follows_the_end_of_an_archive_is_bounded(tmp_path: Path) -> None:
    content = gzip.compress(gzip.decompress(archive(("a", b"a"))) + bytes(8 * 2**20))
    with pytest.raises(ArchiveError, match="holds too much"):
        unpack(tmp_path, content, unpacked_size=2**20, members=10)


def test_a_member_that_announces_more_than_there_is_is_refused(tmp_path: Path) -> None:
    header = special("a", tarfile.REGTYPE, size=10**6).tobuf()
    with pytest.raises(ArchiveError, match="unexpected end of data"):
        unpack(tmp_path, gzip.compress(header + bytes(512)))


def test_a_negative_size_is_refused(tmp_path: Path) -> None:
    header = special("a", tarfile.REGTYPE, size=-(2**40)).tobuf(tarfile.GNU_FORMAT)
    with pytest.raises(ArchiveError):
        unpack(tmp_path, gzip.compress(header + bytes(1024)))


def test_modes_lose_their_special_bits_and_keep_the_owners_access(client: Client) -> None:
    members = [special("d", DIRECTORY), special("s", tarfile.REGTYPE), special("x", b"0")]
    for member, mode in zip(members, (0o000, 0o6777, 0o4000), strict=True):
        member.mode = mode
    shown = client.output("stat -c '%n %a %U' *", upload=archive(*members))
    assert shown.splitlines() == ["d 700 student", "s 777 student", "x 600 student"]


def test_links_inside_an_upload_work(client: Client) -> None:
    upload = archive(
        ("d/f", b"text"),
        special("d/up", SYMLINK, "../d/f"),
        special("absolute", SYMLINK, "/home/student/d/f"),
        special("hard", LINK, "d/f"),
    )
    assert client.output("cat d/up absolute hard", upload=upload) == "text" * 3


def test_an_upload_wins_over_the_stored_environment_by_exact_names(client: Client) -> None:
    stored = archive(("a", b"old"), ("d/b", b"old"), ("c", b"old"))
    environment = client.run("true", upload=stored, save=True)["environment"]
    newer = archive(("a", b"new"), ("./d/b", b"new"), ("./e", b"new"))
    shown = client.output("tail -n +1 a d/b c e", upload=newer, environment=environment)
    files = dict(part.split(" <==\n") for part in shown.replace("\n\n", "\n").split("==> ")[1:])
    assert {name: text.strip() for name, text in files.items()} == {
        "a": "new",
        "d/b": "old",
        "c": "old",
        "e": "new",
    }


def test_a_file_replaces_a_link_and_not_what_it_leads_to(client: Client) -> None:
    environment = client.run("echo old > f; ln -s f l", save=True)["environment"]
    shown = client.output("cat f l", upload=archive(("l", b"new")), environment=environment)
    assert shown == "old\nnew"


def test_what_is_saved_comes_back(client: Client) -> None:
    make = """mkdir -p d/e; echo 1 > d/e/f; ln -s d/e/f link; ln -s /usr/bin/env out; ln f g;
    ln d/e/f hard; echo 2 > $'new\\nline'; echo 3 > $'raw\\377'; chmod 750 d; chmod +x hard;
    mkfifo pipe; python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("socket")'"""
    environment = client.run(f"-{make}", save=True)["environment"]
    look = "cat d/e/f link hard $'new\\nline' $'raw\\377'; readlink out; stat -c %a d hard; ls -A"
    shown = client.output(look, environment=environment)
    assert shown.split("\n")[:8] == ["1", "1", "1", "2", "3", "/usr/bin/env", "750", "755"]
    assert "pipe" not in shown
    assert "socket" not in shown


def test_files_and_folders_that_forbid_reading_are_saved(client: Client) -> None:
    make = "mkdir d; echo 1 > d/f; chmod 0 d/f d"
    environment = client.run(make, save=True)["environment"]
    assert client.output("cat d/f", environment=environment) == "1"


@pytest.mark.parametrize("mode", [0o000, 0o100, 0o200, 0o400])
@pytest.mark.parametrize("path", [".", "d", "d/e"])
def test_whatever_a_folder_forbids_is_packed(no_root: Path, path: str, mode: int) -> None:
    folder = no_root / "d/e"
    folder.mkdir(parents=True)
    (folder / "f").write_text("1")
    (no_root / path).chmod(mode)
    root = open_folder(no_root)
    packed = io.BytesIO()
    try:
        pack(root, packed, Limits())
    finally:
        os.close(root)
    packed.seek(0)
    with tarfile.open(fileobj=packed) as file:
        assert file.getnames() == ["d", "d/e", "d/e/f"]


def test_members_are_named_without_a_leading_dot_and_folders_are_members(client: Client) -> None:
    environment = client.run("mkdir -p a/b; touch a/b/c", save=True)["environment"]
    content = client.get(f"/environments/{environment}/").content
    with tarfile.open(fileobj=io.BytesIO(content)) as file:
        assert sorted(file.getnames()) == ["a", "a/b", "a/b/c"]
        assert {member.uname for member in file} == {"student"}


def test_a_working_directory_that_is_too_large_is_not_saved(client: Client) -> None:
    make = "truncate -s 1G a b c; echo text > r; echo out"
    answer = client.run(make, result_path="r", save=True)
    [last] = answer["execution"]
    assert (answer["status"], last["exit_code"], last["exceeded"]) == (-1, 0, "save")
    assert (last["stdout"], answer["result"]) == ("out", "text\n")
    assert not {"environment", "expire"} & answer.keys()
    assert client.left() == []
    assert not list(client.folder.glob("sandbox-work-*/data/environments/*.tmp"))


DEEP = "for i in $(seq 40); do mkdir -p {0} && cd -P {0}; done; chmod 0 ../../x".format(
    "/".join(["x" * 5] * 40)
)


@pytest.mark.parametrize("save", [True, False])
def test_folders_too_deep_to_be_named_do_no_harm(client: Client, save: bool) -> None:
    answer = client.run(f"-{DEEP}", save=save)
    assert answer["status"] == (-1 if save else 0)
    assert "environment" not in answer
    assert client.left() == []


def test_links_out_of_the_working_directory_are_saved_as_links(client: Client) -> None:
    make = "ln -s /etc/passwd p; ln -s ../../.. up; ln -s . self"
    environment = client.run(make, save=True)["environment"]
    content = client.get(f"/environments/{environment}/").content
    with tarfile.open(fileobj=io.BytesIO(content)) as file:
        assert {member.name: member.linkname for member in file} == {
            "p": "/etc/passwd",
            "up": "../../..",
            "self": ".",
        }
    assert client.get(f"/files/{environment}/p/").status_code == 404
    assert client.get(f"/files/{environment}/up/").status_code == 404


def test_a_large_file_is_sent_whole(client: Client) -> None:
    make = "head -c 5000000 /dev/urandom > f; ln -s f l; md5sum < f"
    answer = client.run(make, save=True)
    for name in ("f", "l"):
        response = client.get(f"/files/{answer['environment']}/{name}/")
        assert response.headers["content-length"] == "5000000"
        digest = hashlib.md5(response.content).hexdigest()
        assert answer["execution"][0]["stdout"].startswith(digest)


def test_loops_of_links_in_an_archive_end(client: Client) -> None:
    environment = client.run("ln -s b a; ln -s a b", save=True)["environment"]
    assert client.get(f"/files/{environment}/a/").status_code == 404


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs sandboxes as another account")
def test_uploaded_files_belong_to_the_account_of_the_sandbox(client: Client) -> None:
    upload = archive(("a/b/c", b""), special("l", SYMLINK, "a"))
    assert client.output("stat -c %U a a/b a/b/c l | sort -u", upload=upload) == "student"
