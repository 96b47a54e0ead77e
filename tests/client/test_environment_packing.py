"""Environments: made of what users have, and unpacked whatever is in them."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import shutil
import socket
import subprocess
import tarfile
import time
import tracemalloc
from typing import TYPE_CHECKING, Any, cast

import pytest

from sandbox_api import _pack
from sandbox_api._transfer import sendable
from sandbox_api.environment import (
    EnvironmentFile,
    InvalidEnvironment,
    extract_environment,
    list_environment,
    open_environment,
)

from ..conftest import tgz

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MIB = 1024**2
NASTY = [
    "plain",
    "with space ",
    "caf\u00e9",
    "cafe\u0301",
    "日本語/\U0001f40d",
    "new\nline",
    "-rf",
    "--checkpoint-action=exec=sh",
    "*[?]{a}",
    "quo\"te'",
    "tab\t",
    "#comment",
    "!negated",
    "~",
    "...",
    "a-b",
    "a/b",
    "a/b-c",
    "x" * 100,
    "x" * 101,
    "é" * 127,
    "/".join(["long-part"] * 26),
    "/".join(["ß" * 100] * 5),
]


def members(stream: Any) -> list[tarfile.TarInfo]:
    with tarfile.open(fileobj=stream, mode="r:gz") as archive:
        return archive.getmembers()


def content(stream: Any) -> dict[str, str]:
    """Return an archive's files, links and directories, read by tarfile, by name."""
    found: dict[str, str] = {}
    with tarfile.open(fileobj=stream, mode="r:gz") as archive:
        for member in archive:
            if member.isreg():
                file = archive.extractfile(member)
                assert file
                found[member.name] = file.read().decode()
            else:
                found[member.name] = f"-> {member.linkname}" if member.issym() else "/"
    return found


def names(*args: Any, **options: Any) -> list[str]:
    with open_environment(*args, **options) as stream:
        return list(content(stream))


def member(name: str, data: bytes = b"", **attributes: Any) -> bytes:
    """Return a member as it is in an archive."""
    made = tarfile.TarInfo(name)
    made.size = len(data)
    for attribute, value in attributes.items():
        setattr(made, attribute, value)
    return made.tobuf() + data + bytes(-len(data) % 512)


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> bytes:
    return member(name, type=kind, linkname=target)


def pax(text: str) -> bytes:
    return member("x", text.encode("utf-8", "surrogateescape"), type=tarfile.XHDTYPE)


def archive(*parts: bytes) -> io.BytesIO:
    return io.BytesIO(gzip.compress(b"".join(parts) + bytes(1024), 1))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory with some of everything."""
    root = tmp_path / "tree"
    (root / "src").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "src" / "main.py").write_text("print(1)")
    (root / "src" / "run.sh").write_text("#!/bin/sh")
    (root / "src" / "run.sh").chmod(0o755)
    (root / "README").write_text("")
    (root / "src" / "up").symlink_to("../README")
    (root / "also").symlink_to("src/./up")
    return root


# What an environment is made of


def test_directory(tree: Path) -> None:
    with open_environment(tree) as stream:
        assert stream.tell() == 0
        assert content(stream) == {
            "README": "",
            "also": "-> src/./up",
            "empty": "/",
            "src": "/",
            "src/main.py": "print(1)",
            "src/run.sh": "#!/bin/sh",
            "src/up": "-> ../README",
        }
    assert names(str(tree)) == names(tree) == sorted(names(tree))


def test_mapping(tree: Path) -> None:
    source: dict[str, str | bytes | Path] = {
        "b/é": "é\r\n",
        "a": b"\0\xff",
        "b/run": tree / "src" / "run.sh",
        "l": tree / "also",
    }
    with open_environment(source) as stream:
        found = {each.name: each for each in members(stream)}
        assert list(found) == ["a", "b", "b/run", "b/é", "l"]
        assert [each.mode for each in found.values()] == [0o644, 0o755, 0o755, 0o644, 0o644]
        stream.seek(0)
        with tarfile.open(fileobj=stream) as read:
            assert cast("Any", read.extractfile("b/é")).read() == b"\xc3\xa9\r\n"
            assert cast("Any", read.extractfile("a")).read() == b"\0\xff"
            assert cast("Any", read.extractfile("b/run")).read() == b"#!/bin/sh"


def test_archives_are_sent_as_they_are(tmp_path: Path) -> None:
    data = tgz({"a": "1"}).getvalue()
    path = tmp_path / "environment.tgz"
    path.write_bytes(data)
    for source in (data, path, str(path), io.BytesIO(data), path.open("rb")):
        with open_environment(source) as stream:
            assert sendable(stream) is stream
            assert stream.read() == data


def test_stream_is_read_from_where_it_stands() -> None:
    source = io.BytesIO(b"headerrest")
    source.seek(6)
    with open_environment(source) as stream:
        assert stream.read() == b"rest"
    assert source.closed


@pytest.mark.parametrize("source", [{}, {"a": "x" * 5 * MIB}])
def test_packed_stream_is_sent_without_a_copy(source: dict[str, str]) -> None:
    with open_environment(source) as stream:
        assert sendable(stream) is stream
        assert stream.seek(0, os.SEEK_END) == os.fstat(stream.fileno()).st_size


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (io.StringIO("a"), "environ must be a binary stream, not one of text"),
        (None, "not NoneType"),
        (3, "not int"),
        (["a"], "not list"),
        ({"a": 3}, "the content of 'a' must be text, bytes or a path, not int"),
        ({"a": None}, "not NoneType"),
        ({3: "a"}, "name of a file must be a string, not int"),
    ],
)
def test_other_types_are_refused(source: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        open_environment(source)


def test_paths_that_are_no_archive(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="missing"):
        open_environment(tmp_path / "missing.tgz")
    with pytest.raises(FileNotFoundError, match="missing"):
        open_environment({"a": tmp_path / "missing"})
    (tmp_path / "text").write_text("print()")
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    for name in ("text", "empty"):
        with pytest.raises(InvalidEnvironment, match=r"is not a gzipped file: give a .tgz"):
            open_environment(tmp_path / name)
    for source in (tmp_path / "fifo", "/dev/null", {"a": tmp_path / "fifo"}):
        with pytest.raises(InvalidEnvironment, match="is not a file"):
            open_environment(source)
    with pytest.raises(InvalidEnvironment, match="is a directory, where a file must be"):
        open_environment({"a": tmp_path})
    with pytest.raises(InvalidEnvironment, match="the path of an environment is empty"):
        open_environment("")
    with pytest.raises(OSError, match="loop"):
        open_environment(tmp_path / "loop")


def test_empty_path_is_not_the_working_directory() -> None:
    with pytest.raises(InvalidEnvironment):
        open_environment("")


# The same content makes the same bytes


def test_packing_is_reproducible(tree: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    mask = os.umask(0o077)
    try:
        for path in [tree, *sorted(tree.rglob("*"), reverse=True)]:
            copy = other / path.relative_to(tree)
            copy.parent.mkdir(parents=True, exist_ok=True)
            if path.is_symlink():
                copy.symlink_to(os.readlink(path))
            elif path.is_dir():
                copy.mkdir(exist_ok=True)
            else:
                copy.write_bytes(path.read_bytes())
                copy.chmod(0o711 if path.stat().st_mode & 0o100 else 0o600)
                os.utime(copy, (1, 1))
    finally:
        os.umask(mask)
    os.link(other / "src" / "main.py", tmp_path / "hard")
    with open_environment(tree) as one, open_environment(other) as two:
        data = one.read()
        assert data == two.read()
    # No flags, so no name; no time.
    assert data[:8] == b"\x1f\x8b\x08\0\0\0\0\0"
    for each in members(io.BytesIO(data)):
        assert (each.uid, each.gid, each.uname, each.gname, each.mtime) == (0, 0, "", "", 0)
        assert each.mode == (0o644 if each.name in {"README", "src/main.py"} else 0o755)
        assert not each.pax_headers


def test_mapping_packs_like_the_directory(tmp_path: Path) -> None:
    source = {"b/c": "1", "a": "2", "b-": "3"}
    for name, text in source.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    with open_environment(source) as one, open_environment(tmp_path) as two:
        assert one.read() == two.read()


def test_hard_links_are_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    os.link(tmp_path / "a", tmp_path / "b")
    with open_environment(tmp_path) as stream:
        assert content(stream) == {"a": "1", "b": "1"}


# There and back


def test_nasty_names_there_and_back(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    wanted = {name: f"content of {name}" for name in NASTY if name != "a"}
    with open_environment(wanted) as stream:
        extract_environment(stream, first)
    found = {
        str(path.relative_to(first)): path.read_bytes().decode()
        for path in first.rglob("*")
        if path.is_file()
    }
    assert found == wanted
    with open_environment(first) as stream, open_environment(wanted) as again:
        data = stream.read()
        assert data == again.read()
        assert wanted.items() <= content(io.BytesIO(data)).items()
        listed = list(list_environment(io.BytesIO(data)))
        assert [each.name for each in listed] == [each.name for each in members(io.BytesIO(data))]
        extract_environment(io.BytesIO(data), second)
    with open_environment(second) as stream:
        assert stream.read() == data


def test_tree_there_and_back(tree: Path, tmp_path: Path) -> None:
    target = tmp_path / "back"
    with open_environment(tree) as stream:
        data = stream.read()
    extract_environment(io.BytesIO(data), target)
    assert (target / "src" / "run.sh").stat().st_mode & 0o777 == 0o755
    assert (target / "src" / "main.py").stat().st_mode & 0o777 == 0o644
    assert os.readlink(target / "also") == "src/./up"
    with open_environment(target) as stream:
        assert stream.read() == data


@pytest.mark.skipif(not shutil.which("tar"), reason="tar is not installed")
def test_tar_reads_what_is_packed(tmp_path: Path) -> None:
    with open_environment(dict.fromkeys(NASTY, "x") | {"e": ""}) as stream:
        checked = subprocess.run(
            ["tar", "-tzf", "-", "--quoting-style=literal", "--null"],
            stdin=stream,
            capture_output=True,
            check=True,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
        )
        assert checked.stderr == b""
        stream.seek(0)
        wanted = [each.name + "/" * each.isdir() for each in members(stream)]
    assert checked.stdout.decode().splitlines() == "\n".join(wanted).splitlines()


@pytest.mark.skipif(not shutil.which("tar"), reason="tar is not installed")
@pytest.mark.parametrize("form", ["gnu", "pax", "ustar", "v7"])
def test_what_tar_packs_is_read(form: str, tree: Path, tmp_path: Path) -> None:
    os.link(tree / "README", tree / "hard")
    if form in {"gnu", "pax"}:
        deep = tree.joinpath(*["directory" * 5] * 5)
        deep.mkdir(parents=True)
        (deep / "é").write_text("1")
        (deep / "link").symlink_to(os.path.relpath(deep / "é", deep.parent.parent / "x/y"))
    packed = subprocess.run(
        ["tar", "-czf", "-", f"--format={form}", "-C", tree, "."], capture_output=True, check=True
    ).stdout
    extract_environment(io.BytesIO(packed), tmp_path / "out")
    with open_environment(tmp_path / "out") as one, open_environment(tree) as two:
        assert one.read() == two.read()


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_what_tarfile_packs_is_read(form: int, tmp_path: Path) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz", format=form) as packed:
        for name in ("a", "d/" + "n" * 99, "/".join(["part"] * 24)):
            packed.addfile(tarfile.TarInfo(name))
    stream.seek(0)
    listed = [each.name for each in list_environment(stream)]
    stream.seek(0)
    assert listed == list(content(stream))


# What cannot be packed


@pytest.mark.parametrize(
    "name",
    [
        *["", "/", "/etc/passwd", "a/", "a//b", ".", "./a", "a/.", "..", "../a", "a/../b", "a/.."],
        *["a\0", "\0", "a\\\0b", "a\\b", "\udcff", "x" * 256, "é" * 128],
    ],
)
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(InvalidEnvironment, match=r"write it like|rename it|use at most 255"):
        open_environment({name: ""})


@pytest.mark.parametrize(
    "source",
    [{"a": "", "a/": ""}, {"a": "", "a/b": ""}, {"a/b": "", "a": ""}, {"a/b/c": "", "a/b": ""}],
)
def test_names_that_contradict_each_other(source: dict[str, str]) -> None:
    with pytest.raises(InvalidEnvironment, match=r"rename one of them|write it like"):
        open_environment(source)


def test_content_that_is_not_utf_8() -> None:
    with pytest.raises(InvalidEnvironment, match=r"the content of 'a' .* give it as bytes"):
        open_environment({"a": "\ud800"})


@pytest.mark.parametrize(
    ("path", "target", "words"),
    [
        ("l", "/etc/passwd", "an absolute path: make it relative"),
        ("l", "..", "outside the environment"),
        ("l", "../secret", "outside the environment"),
        ("src/l", "../../secret", "outside the environment"),
        ("src/l", "../empty/../../tree/README", "outside the environment"),
        ("l", "missing", "not in the environment: remove the link"),
        ("l", "missing/../README", "not in the environment"),
        ("l", "README/", "not in the environment"),
        ("l", "README/../README", "not in the environment"),
        ("l", "l", "a maze of other links"),
        ("src/l", "excluded", "stop excluding"),
        ("l", ".sandboxignore", "stop excluding"),
    ],
)
def test_links_that_are_refused(path: str, target: str, words: str, tree: Path) -> None:
    (tree / ".sandboxignore").write_text("excluded\n")
    (tree / "src" / "excluded").touch()
    (tree.parent / "secret").touch()
    (tree / path).symlink_to(target)
    with pytest.raises(InvalidEnvironment, match=f"link '{path}' leads to '{target}', .*{words}"):
        open_environment(tree)
    assert path not in names(tree, exclude=["l"])


def test_link_that_leads_outside_through_another(tree: Path) -> None:
    (tree / "src" / "deep").mkdir()
    (tree / "src" / "deep" / "root").symlink_to("../..")
    (tree / "innocent").symlink_to("src/deep/root/../secret")
    with pytest.raises(InvalidEnvironment, match=r"'innocent' leads .* outside"):
        open_environment(tree)


@pytest.mark.parametrize("kind", ["fifo", "socket"])
def test_special_files_are_refused(kind: str, tree: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tree)  # the path of a socket must be short
    if kind == "fifo":
        os.mkfifo("special")
    else:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind("special")
    with pytest.raises(InvalidEnvironment, match="special' is a device, socket or FIFO"):
        open_environment(tree)
    assert "special" not in names(tree, exclude=["special"])


def test_directory_with_names_that_are_not_utf_8(tree: Path) -> None:
    (tree / "l").symlink_to("\udcff")
    with pytest.raises(InvalidEnvironment, match="'l' leads to"):
        open_environment(tree)
    path = os.fsencode(tree) + b"/\xff"
    with contextlib.suppress(OSError), open(path, "wb"):
        pass
    if path not in {os.fsencode(each) for each in tree.iterdir()}:
        pytest.skip("this file system has only UTF-8 names")
    with pytest.raises(InvalidEnvironment, match="is not UTF-8: rename it"):
        open_environment(tree, exclude=["l"])


@pytest.mark.parametrize("size", [0, 1, 10, MIB])
def test_file_that_changes_its_size(size: int, tree: Path, monkeypatch: Any) -> None:
    path = tree / "src" / "main.py"
    path.write_bytes(b"x" * 1000)

    original = _pack.open_regular

    def opened(name: str) -> tuple[int, os.stat_result]:
        found = original(name)
        if name == str(path):
            os.truncate(path, size)
        return found

    monkeypatch.setattr(_pack, "open_regular", opened)
    with pytest.raises(InvalidEnvironment, match=r"main.py' changed its size"):
        open_environment(tree)


# What is left out

FILES = ["a.log", "a.py", "build/x", "docs/a.log", "docs/build", "lib/build/y", "lib/deep/z.log"]


@pytest.mark.parametrize(
    ("patterns", "gone"),
    [
        ([], []),
        (["", "  ", "# a.py", "/", "!"], []),
        (["*.log"], ["a.log", "docs/a.log", "lib/deep/z.log"]),
        (["/*.log"], ["a.log"]),
        (["*/*.log"], ["docs/a.log"]),
        (["**/*.log"], ["a.log", "docs/a.log", "lib/deep/z.log"]),
        (["lib/**/*.log"], ["lib/deep/z.log"]),
        (["lib/**.log"], ["lib/deep/z.log"]),
        (["lib/*.log"], []),
        (["lib?deep"], []),
        (["lib[/]deep"], []),
        (["build"], ["build/x", "docs/build", "lib/build/y"]),
        (["build/"], ["build/x", "lib/build/y"]),
        (["/build"], ["build/x"]),
        (["lib/build"], ["lib/build/y"]),
        (["deep/z.log"], []),
        (["lib/**"], ["lib/build/y", "lib/deep/z.log"]),
        (["?.py"], ["a.py"]),
        (["[a-c].py", "[!a].log"], ["a.py", "lib/deep/z.log"]),
        (["[^a].log"], ["lib/deep/z.log"]),
        (["[z-a].py", "[]a].log"], ["a.log", "docs/a.log"]),
        (["*.log", "!a.log"], ["lib/deep/z.log"]),
        (["!a.log", "*.log"], ["a.log", "docs/a.log", "lib/deep/z.log"]),
        (["lib/", "!lib/deep/z.log"], ["lib/build/y", "lib/deep/z.log"]),
        (["lib/*", "!lib/deep"], ["lib/build/y"]),
        (["*", "!*/", "!*.py"], [each for each in FILES if each != "a.py"]),
        (["a.py \t"], ["a.py"]),
        (["\\a.py"], ["a.py"]),
        (["a.py\\ "], []),
        (["A.PY", "a.p", ".py"], []),
    ],
)
def test_exclude(patterns: list[str], gone: list[str], tmp_path: Path) -> None:
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    wanted = [name for name in FILES if name not in gone]
    assert [name for name in names(tmp_path, exclude=patterns) if name in FILES] == wanted
    assert [
        name for name in names(dict.fromkeys(FILES, ""), exclude=patterns) if name in FILES
    ] == (wanted)
    (tmp_path / ".sandboxignore").write_text("\ufeff" + "\r\n".join(patterns), newline="")
    assert [name for name in names(tmp_path) if name in FILES] == wanted
    assert ".sandboxignore" not in names(tmp_path)


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("[[a&&b~~c||d--e]", "&", True),
        ("[[a&&b~~c||d--e]", "[", True),
        ("[a", "[a", True),
        ("[]", "[]", True),
        ("a**b", "a/x/b", True),
        ("a*b", "a/b", False),
        ("a*b", "a\nb", True),
        ("\\*", "*", True),
        ("\\*", "a", False),
        ("\\!a", "!a", True),
        ("\\#a", "#a", True),
        ("(a|b)+.$", "(a|b)+.$", True),
        ("**", "a/b", True),
        ("**/a/**/b", "a/b", True),
        ("**/a/**/b", "x/a/y/z/b", True),
        ("*a*b*", "xbxa", False),
        ("*a*b*", "xbaaxb", True),
        ("**a*b", "a/ab", True),
        ("é?", "é\u0301", True),
    ],
)
def test_patterns(pattern: str, name: str, matches: bool) -> None:
    assert (name not in names({name: "", "other": ""}, exclude=[pattern])) is matches


def test_sandboxignore_comes_before_exclude(tmp_path: Path) -> None:
    for name in ("a", "b", "sub/.sandboxignore"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("*")
    (tmp_path / ".sandboxignore").write_text("a\n!b")
    assert names(tmp_path, exclude=["b", "!a"]) == ["a", "sub", "sub/.sandboxignore"]


def test_excluded_directories_are_not_walked(tree: Path) -> None:
    os.mkfifo(tree / "empty" / "fifo")
    assert "empty" not in names(tree, exclude=["empty"])


@pytest.mark.parametrize("data", [b"\xff", b"#" * 65537])
def test_sandboxignore_that_is_refused(data: bytes, tree: Path) -> None:
    (tree / ".sandboxignore").write_bytes(data)
    with pytest.raises(InvalidEnvironment, match="must be UTF-8 text of at most 65536 bytes"):
        open_environment(tree)


@pytest.mark.parametrize("pattern", ["*a" * 60 + "b", "**/" * 40 + "*a*a*a*b", "**a*a" * 50 + "b"])
def test_hostile_patterns_take_no_time(pattern: str) -> None:
    start = time.monotonic()
    assert names({"/".join(["a" * 250] * 8): ""}, exclude=[pattern])
    assert time.monotonic() - start < 2


def test_exclude_that_is_wrong() -> None:
    with pytest.raises(TypeError, match="a list of patterns, not a string"):
        open_environment({}, exclude="*.log")
    with pytest.raises(TypeError, match="for directories and mappings"):
        open_environment(b"", exclude=["*.log"])


# Memory


def peak(call: Callable[[], object]) -> int:
    """Return the most memory that a call had at once, in bytes."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE])
@pytest.mark.parametrize("size", [0, 1, 511, 8**11 - 1, 8**11])
@pytest.mark.parametrize("target", ["", "../x", "t" * 100, "t" * 101, "é"])
@pytest.mark.parametrize("name", ["a", "a b/~", "n" * 99, "n" * 100, "n/" * 60 + "n", "é"])
def test_headers_are_those_of_tarfile(name: str, target: str, size: int, kind: bytes) -> None:
    for mode in (0o644, 0o755):
        member = tarfile.TarInfo(name)
        member.type, member.mode, member.size, member.linkname = kind, mode, size, target
        expected = member.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")
        assert _pack._header(name, kind, mode, size, target) == expected


def test_memory_is_bounded(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    with (source / "sparse").open("wb") as file:
        file.truncate(200 * MIB)
    streams: list[Any] = []
    assert peak(lambda: streams.append(open_environment(source))) < 16 * MIB
    with streams[0] as stream:
        assert peak(lambda: list(list_environment(stream))) < 16 * MIB
        stream.seek(0)
        with pytest.raises(InvalidEnvironment, match="more than is allowed"):
            extract_environment(stream, tmp_path / "out", max_size=200 * MIB - 1)
    assert list(tmp_path.iterdir()) == [source]


# Unpacking what nobody vouches for


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "parent" / "target"


def refused(stream: io.BytesIO, target: Path, words: str, **limits: int) -> None:
    """Check that an archive is refused, and nothing of it stays."""
    with pytest.raises(InvalidEnvironment, match=words):
        extract_environment(stream, target, **limits)
    assert list(target.parent.iterdir()) == []
    assert list(target.parent.parent.iterdir()) == [target.parent]
    assert not stream.closed


ESCAPES: dict[str, tuple[bytes, ...]] = {
    "absolute": (member("/tmp/x"),),
    "above": (member("../x"),),
    "above, later": (member("a/../../x"),),
    "above, inside": (member("a/../x"),),
    "directory": (member("..", type=tarfile.DIRTYPE),),
    "NUL": (pax("14 path=a\0bcd\n"), member("x")),
    "extended": (pax("13 path=../x\n"), member("x")),
    "long": (member("x", b"../x\0", type=tarfile.GNUTYPE_LONGNAME), member("x")),
    "no name": (member("./"),),
    "deep": (member("a/" * 100 + "a"),),
    "link": (link("l", "../x"),),
    "absolute link": (link("l", "/etc"),),
    "empty link": (link("l", ""),),
    "link later": (link("a/l", "../.."),),
    "link of links": (
        member("a/b/x"),
        link("a/b/root", "../.."),
        link("l", "a/b/root/../x"),
    ),
    "link by another case": (link("a/b/ROOT", "../.."), link("l", "a/b/root/../../x")),
    "loop and out": (link("a", "b"), link("b", "a"), link("l", "a/../..")),
    "through a link": (member("d/x"), link("l", "d"), member("l/y")),
    "link over a directory": (member("d/x"), link("d", "e")),
    "file over a link": (link("l", "e"), member("l")),
    "file over a directory": (member("d/x"), member("d")),
    "hard link": (link("h", "../x", tarfile.LNKTYPE),),
    "absolute hard link": (link("h", "/etc/passwd", tarfile.LNKTYPE),),
    "hard link to nothing": (link("h", "x", tarfile.LNKTYPE),),
    "hard link to itself": (member("h"), link("h", "h", tarfile.LNKTYPE)),
    "hard link to a link": (link("l", "x"), link("h", "l", tarfile.LNKTYPE)),
    "hard link through a link": (link("l", "."), link("h", "l/x", tarfile.LNKTYPE)),
    "FIFO": (member("f", type=tarfile.FIFOTYPE),),
    "device": (member("f", type=tarfile.CHRTYPE),),
    "block device": (member("f", type=tarfile.BLKTYPE),),
    "unknown": (member("f", b"data", type=b"V"),),
    "sparse": (member("f", type=tarfile.GNUTYPE_SPARSE),),
    "sparse by PAX": (pax("22 GNU.sparse.major=1\n"), member("f")),
    "part that is too long": (pax(f"{9 + 256 + 1} path={'x' * 256}\n"), member("x")),
}


@pytest.mark.parametrize("name", ESCAPES)
def test_unsafe_archives_are_refused(name: str, target: Path) -> None:
    refused(
        archive(member("innocent", b"1"), *ESCAPES[name]),
        target,
        r"environment|sparse|remove it|rename one of them",
    )


def test_unsafe_archives_are_listed() -> None:
    stream = archive(
        member("../x", b"12"),
        link("l", "/"),
        member("f", type=tarfile.FIFOTYPE),
        member("d/", type=tarfile.DIRTYPE),
        link("h", "../x", tarfile.LNKTYPE),
    )
    assert list(list_environment(stream)) == [
        EnvironmentFile("../x", 2, "file"),
        EnvironmentFile("l", 0, "symlink"),
        EnvironmentFile("f", 0, "other"),
        EnvironmentFile("d", 0, "directory"),
        EnvironmentFile("h", 2, "file"),
    ]
    assert not stream.closed


def test_what_is_kept(target: Path) -> None:
    mask = os.umask(0o027)
    try:
        extract_environment(
            archive(
                member("./", type=tarfile.DIRTYPE, mode=0),
                member("./a//b", b"1", mode=0o6777, uid=1234, mtime=1),
                member("c", b"2", mode=0o060),
                link("l", "./gone/x"),
                link("h", "a/b", tarfile.LNKTYPE),
                member("c", b"3"),
                member("d", type=tarfile.DIRTYPE, mode=0),
                member("d", type=tarfile.DIRTYPE),
            ),
            target,
        )
    finally:
        os.umask(mask)
    assert {each.name: each.read_bytes() for each in target.iterdir() if each.is_file()} == {
        "c": b"3",
        "h": b"1",
    }
    assert (target / "a" / "b").stat().st_mode & 0o7777 == 0o750
    assert (target / "c").stat().st_mode & 0o7777 == 0o640
    assert target.stat().st_mode & 0o777 == (target / "d").stat().st_mode & 0o777 == 0o750
    assert os.readlink(target / "l") == "./gone/x"


def test_destination(target: Path) -> None:
    data = tgz({"a": "1"}).getvalue()
    target.mkdir(parents=True, mode=0o700)
    extract_environment(io.BytesIO(data), target)
    assert target.stat().st_mode & 0o777 == 0o700
    for taken in (target, str(target), target / "a"):
        with pytest.raises(FileExistsError, match="is not an empty directory: name a new one"):
            extract_environment(io.BytesIO(data), taken)
    real = target.parent / "real"
    real.mkdir()
    (target.parent / "link").symlink_to("real")
    extract_environment(io.BytesIO(data), target.parent / "link")
    assert (real / "a").read_text() == (target / "a").read_text() == "1"
    assert {each.name for each in target.parent.iterdir()} == {"link", "real", "target"}


def test_empty_environment(target: Path) -> None:
    with open_environment({}) as stream:
        assert list(list_environment(stream)) == []
        stream.seek(0)
        extract_environment(stream, target)
    assert list(target.iterdir()) == []


def test_archives_that_are_cut_short(target: Path) -> None:
    with open_environment({"a": b"1" * 600, "é": os.urandom(600)}) as stream:
        data = stream.read()
    plain = gzip.decompress(data)
    for end in [*range(0, len(data), 7), len(data) - 8, len(data) - 1]:
        refused(io.BytesIO(data[:end]), target, "not a whole gzipped tar archive")
    for end in [0, 512, 513, 1024, 2048, len(plain) - 1024, len(plain) - 1023]:
        refused(io.BytesIO(gzip.compress(plain[:end])), target, "not a whole gzipped tar archive")


@pytest.mark.parametrize("place", [0, 100, 124, 148, 156, 512])
def test_archives_that_are_damaged(place: int, target: Path) -> None:
    plain = bytearray(member("a", b"1" * 600) + member("b") + bytes(1024))
    plain[place + 1024 + 512 if place < 512 else 1536] ^= 0x15
    refused(io.BytesIO(gzip.compress(plain)), target, "one of its headers is damaged")


@pytest.mark.parametrize(
    "data",
    [b"", b"PK\3\4", b"\x1f\x8b", member("a") + bytes(1024), gzip.compress(b"text" * 999)],
    ids=["empty", "zip", "cut", "plain tar", "gzipped text"],
)
def test_what_is_no_archive(data: bytes, target: Path) -> None:
    refused(io.BytesIO(data), target, "not a whole gzipped tar archive")


@pytest.mark.parametrize(
    "text", ["9", "9999999 a=b\n", "0 a=b\n", "-6 a=b\n", "5 ab\n", "6 a=bc", "11 size=-1\n"]
)
def test_damaged_extended_headers(text: str, target: Path) -> None:
    refused(archive(pax(text), member("a")), target, "one of its headers is damaged")


def test_checksum_is_checked(target: Path) -> None:
    data = bytearray(tgz({"a": "1"}).getvalue())
    data[-6] ^= 1
    refused(io.BytesIO(data), target, "CRC check failed")


@pytest.mark.parametrize(
    ("chunk", "error", "words"),
    [("text", TypeError, "not one of text"), (OSError("a bad disk"), OSError, "a bad disk")],
)
def test_stream_that_can_not_be_read_is_closed(
    chunk: Any, error: type[Exception], words: str
) -> None:
    class Stream:
        closed = False

        def read(self, _: int) -> Any:
            if isinstance(chunk, Exception):
                raise chunk
            return chunk

        def close(self) -> None:
            self.closed = True

    stream = Stream()
    with pytest.raises(error, match=words):
        open_environment(cast("Any", stream))
    assert stream.closed


def test_text_is_refused(target: Path) -> None:
    for stream in (io.StringIO(), None, b"bytes"):
        with pytest.raises(TypeError, match="stream must be a binary stream, not"):
            extract_environment(cast("Any", stream), target)
        with pytest.raises(TypeError, match="stream must be a binary stream, not"):
            list_environment(cast("Any", stream))


# Bombs


def test_limits_are_exact(target: Path) -> None:
    stream = archive(member("a", b"123"), member("b", b"45"))
    refused(io.BytesIO(stream.getvalue()), target, "raise max_size", max_size=4)
    refused(io.BytesIO(stream.getvalue()), target, "more than 1 members", max_members=1)
    extract_environment(stream, target, max_size=5, max_members=2)


def compressed(block: bytes, times: int) -> io.BytesIO:
    """Return a block, over and over, compressed without holding all of it."""
    stream = io.BytesIO()
    with gzip.GzipFile(fileobj=stream, mode="wb", compresslevel=1) as file:
        for _ in range(times // 64):
            file.write(block * 64)
    stream.seek(0)
    return stream


BOMBS: dict[str, tuple[Callable[[], io.BytesIO], str]] = {
    "members": (lambda: compressed(member("a"), 10**6), "more than 100 members"),
    "directories": (
        lambda: archive(*(member(f"{i}/" * 50) for i in range(9))),
        "more than 100 members",
    ),
    "claims": (lambda: archive(member("a").replace(b"0" * 11, b"7" * 11, 1)), "header|max_size"),
    "size": (lambda: archive(pax("17 size=99999999\n"), member("a")), "max_size"),
    "zeros after the end": (lambda: compressed(bytes(MIB), 128), "max_size"),
    "globals": (lambda: compressed(member("a", type=tarfile.XGLTYPE), 10**5), "max_size"),
    "long headers": (
        lambda: compressed(member("a", b"x" * 65536, type=tarfile.GNUTYPE_LONGNAME), 640),
        "max_size",
    ),
    "records": (lambda: compressed(pax("6 a=b\n" * 10000), 640), "max_size"),
    "one long header": (lambda: archive(pax("9" * 65537)), "too long"),
    "digits": (lambda: compressed(pax("9" * 65536), 640), "damaged"),
    "empty gzip members": (lambda: io.BytesIO(gzip.compress(b"") * 80_000), "max_size"),
    "links": (
        lambda: archive(
            member("a/a/a/x"),
            *(link(f"{i:03}", f"{i + 1:03}/" + "a/../" * 18 + "a") for i in range(90)),
        ),
        "a maze of other links",
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs(name: str, target: Path) -> None:
    made, words = BOMBS[name]
    stream = made()
    start = time.thread_time()
    used = peak(lambda: refused(stream, target, words, max_size=10**5, max_members=100))
    assert used < 8 * MIB
    assert time.thread_time() - start < 10


def test_endless_stream(target: Path) -> None:
    class Endless(io.RawIOBase):
        begin = gzip.compress(member("a") + bytes(1024))

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            data, self.begin = self.begin[: len(buffer)], self.begin[len(buffer) :]
            data = data or bytes(len(buffer))
            buffer[: len(data)] = data
            return len(data)

    stream = cast("io.BytesIO", io.BufferedReader(Endless()))
    refused(stream, target, "max_size", max_size=10**5, max_members=100)


def test_listing_is_bounded_too() -> None:
    listed = list_environment(compressed(member("a"), 10**5), max_members=10)
    assert [next(listed).name for _ in range(10)] == ["a"] * 10
    with pytest.raises(InvalidEnvironment, match="more than 10 members"):
        next(listed)
    with pytest.raises(InvalidEnvironment, match="max_size"):
        list(list_environment(archive(member("a", b"123")), max_size=2))
