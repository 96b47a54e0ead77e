from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .conftest import Client


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("", "must name a file"),
        ("d/", "must name a file"),
        ("a\0b", "must name a file"),
        ("\ud800", "must name a file"),
        ("/etc/passwd", "must stay in"),
        ("/home/student/r", "must stay in"),
        ("..", "must stay in"),
        ("../r", "must stay in"),
        ("d/../../r", "must stay in"),
        ("d/../r", "must stay in"),
    ],
)
def test_a_path_that_can_not_be_meant_is_refused(client: Client, path: str, reason: str) -> None:
    response = client.ask("true", result_path=path)
    assert response.status_code == 400
    assert f"result_path {reason}" in response.text


@pytest.mark.parametrize(
    ("make", "path"),
    [
        ("mkdir r", "r"),
        ("mkfifo r", "r"),
        ("ln -s /etc/passwd r", "r"),
        ("ln -s ../../etc/passwd r", "r"),
        ("ln -s /etc d", "d/passwd"),
        ("ln -s .. d", "d/student/r"),
        ("ln -s / d; ln -s d/etc e", "e/passwd"),
        ("ln -s /home/student/../student/../../etc/passwd r", "r"),
        ("ln -s /home/student2/r r", "r"),
        ("ln -s /proc/self/root/etc/passwd r", "r"),
        ("ln -s r r", "r"),
        ("ln -s b a; ln -s a b", "a"),
        ("ln -s /home/student/r r", "r"),
        ("touch f", "f/r"),
        ("touch f", "f/."),
        ("python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"r\")'", "r"),
        ("true", "."),
        ("true", "x" * 300),
        ("true", "x/" * 3000 + "x"),
        ("true", "missing"),
        ("rm -rf /home/student; touch x", "x/y"),
    ],
)
def test_what_is_no_file_inside_the_working_directory_is_not_found(
    client: Client, make: str, path: str
) -> None:
    answer = client.run(make, result_path=path)
    assert answer["status"] == -3
    assert "result" not in answer


@pytest.mark.parametrize(
    ("make", "path"),
    [
        ("echo text > r", "r"),
        ("echo text > r", "./r"),
        ("mkdir d; echo text > d/r", "d//r"),
        ("echo text > r; ln -s r l", "l"),
        ("echo text > r; ln -s /home/student/r l", "l"),
        ("echo text > r; ln -s /home/student l", "l/r"),
        ("mkdir d; echo text > r; ln -s ../r d/l", "d/l"),
        ("mkdir -p d/e; echo text > d/r; ln -s d/e l; ln -s l/../r m", "m"),
        ("echo text > r; chmod 0 r", "r"),
        ("echo text > r; exec 3>r; exec sh -c 'echo text > r; sleep 60 & exit 7'", "r"),
    ],
)
def test_a_file_inside_the_working_directory_is_read(client: Client, make: str, path: str) -> None:
    assert client.run(f"-{make}", result_path=path)["result"] == "text\n"


@pytest.mark.parametrize(
    ("content", "result"),
    [("a\\r\\nb\\rc\\n", "a\nb\nc\n"), ("\\357\\273\\277x", "\ufeffx"), ("", "")],
)
def test_the_text_is_read_as_text_files_are(client: Client, content: str, result: str) -> None:
    assert client.run(f"printf '{content}' > r", result_path="r")["result"] == result


@pytest.mark.parametrize(
    ("config", "status"),
    [
        ({"result_path": "missing"}, -3),
        ({"result_path": "binary"}, -4),
        ({"result_path": "text"}, 9),
    ],
)
def test_a_result_that_can_not_be_read_wins_over_a_failure(
    client: Client, config: dict[str, Any], status: int
) -> None:
    answer = client.run("printf '\\377' > binary; echo > text; exit 9", **config)
    assert answer["status"] == status


@pytest.mark.parametrize(("mark", "end"), [("", "true"), ("", "exit 3"), ("-", "exit 3")])
def test_a_result_without_end_is_not_read_but_all_else_is_answered(
    client: Client, mark: str, end: str
) -> None:
    make = f"{mark}truncate -s 65M r; echo out; {end}"
    answer = client.run("echo first", make, result_path="r", save=True)
    first, last = answer["execution"]
    assert (first["stdout"], last["stdout"]) == ("first", "out")
    assert (answer["status"], last["exceeded"]) == (-1, "result")
    assert "exceeded" not in first
    assert "result" not in answer
    # What can be done is done.
    saved = client.head(f"/files/{answer['environment']}/r/")
    assert saved.headers["content-length"] == str(65 << 20)


def test_a_bound_that_was_exceeded_before_stays_told(client: Client) -> None:
    command = "truncate -s 65M r; head -c 2G /dev/zero | tail"
    answer = client.run(command, result_path="r")
    [last] = answer["execution"]
    assert (answer["status"], last["exit_code"], last["exceeded"]) == (-1, 137, "memory")
