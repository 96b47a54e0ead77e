"""The command `batch`, as a shell runs it."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from sandbox_api import Sandbox
from sandbox_api.cli.batch import Request, run as run_batch
from sandbox_api.cli.report import Summary

from .local.browser import browsing
from .servers import RawServer, reply
from .test_cli import PROGRAM, run

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence
    from pathlib import Path

DONE = reply("200 OK", '{"status": 0, "execution": [], "total_time": 0.1}')
SUMMARY = r"(\d+) jobs? in [\d.]+ s: (\d+) passed, (\d+) failed, (\d+) timed out, (\d+) errors?"


@pytest.mark.parametrize(
    ("ends", "told"),
    [((), "0 jobs 0 errors"), (["error"], "1 job 1 error"), (["error"] * 2, "2 jobs 2 errors")],
)
def test_one_is_told_as_one(ends: Sequence[str], told: str) -> None:
    summary = Summary()
    for end in ends:
        summary.add({"outcome": end, "seconds": 0.1})
    assert " ".join(re.findall(r"\d+ (?:job|error)s?\b", str(summary))) == told


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def write_jobs(path: Path, count: int) -> Path:
    path.write_text("".join(f'{{"commands": ["echo {number}"]}}\n' for number in range(count)))
    return path


def test_jobs_from_a_file(sandbox_url: str, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "name").write_text("folder")
    jobs = tmp_path / "jobs.jsonl"
    cat = {"commands": ["cat name"]}
    jobs.write_text(
        "\n".join(
            [
                json.dumps(cat),
                "",
                json.dumps({"id": "a", "config": cat, "environ": "files", "meta": {"group": 3}}),
                json.dumps({"id": "b", "config": cat, "environ": {"name": "object"}}),
                json.dumps(
                    {"id": "c", "config": {"commands": ["sleep 9"], "wrong": 1}, "environ": 3}
                ),
                "no JSON",
                json.dumps({"commands": [{"command": "sleep 5", "timeout": 0.1}]}),
            ]
        )
    )
    done = run("batch", jobs, "--json", "--concurrency", "2", SANDBOX_URL=sandbox_url)
    found = {line["id"]: line for line in lines(done.stdout)}
    assert {name: line["outcome"] for name, line in found.items()} == {
        0: "failed",
        "a": "passed",
        "b": "passed",
        "c": "error",
        4: "error",
        5: "timed out",
    }
    assert found["a"]["meta"] == {"group": 3}
    assert found["b"]["result"]["execution"][0]["stdout"] == "object"
    assert found[4]["error"]["message"].startswith("line 6 is not JSON: Expecting value")
    assert "meta" not in found[4]
    assert done.returncode == 1
    counts = re.match(SUMMARY, done.stderr)
    assert counts
    assert counts.groups() == ("6", "2", "1", "1", "2")
    assert re.search(r"p50 [\d.]+ s, p95 [\d.]+ s, p99 [\d.]+ s\n$", done.stderr)
    human = run("batch", "-", stdin='{"commands": ["true"]}', SANDBOX_URL=sandbox_url)
    assert re.fullmatch(r"passed\t[\d.]+ s\t0\n", human.stdout)
    assert human.returncode == 0


@pytest.mark.parametrize(
    "same", [["--html", "./jobs"], ["-o", "jobs"], ["-o", "out", "--html", "link"]]
)
def test_files_that_are_the_same(same: list[str], tmp_path: Path) -> None:
    (tmp_path / "jobs").write_text('{"commands": ["true"]}')
    (tmp_path / "link").symlink_to(tmp_path / "out")
    done = run("batch", "jobs", *same, cwd=tmp_path)
    told = "sandbox-api: the jobs, the results (-o) and the report (--html) must be three files\n"
    assert (done.stderr, done.returncode) == (told, 2)
    assert (tmp_path / "jobs").read_text() == '{"commands": ["true"]}'
    assert not (tmp_path / "out").exists()


def test_report_takes_the_place_of_none_but_a_report(sandbox_url: str, tmp_path: Path) -> None:
    (tmp_path / "jobs").write_text('{"commands": ["true"]}')
    (tmp_path / "config").write_text("{}")
    (tmp_path / "page").touch()
    for _ in range(2):
        done = run("batch", "jobs", "--html", "page", cwd=tmp_path, SANDBOX_URL=sandbox_url)
        assert done.returncode == 0
    for name in ("config", "."):
        done = run("batch", "jobs", "--html", name, cwd=tmp_path)
        told = f"sandbox-api: {name} is there, and no report: name another file\n"
        assert (done.stderr, done.returncode) == (told, 2)
    assert (tmp_path / "config").read_text() == "{}"


def test_folder_of_submissions(sandbox_url: str, tmp_path: Path) -> None:
    for name in ("alice", "bob"):
        (tmp_path / "in" / name).mkdir(parents=True)
        (tmp_path / "in" / name / "name").write_text(name)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "check").write_text("grep -q alice name")
    output = tmp_path / "results.jsonl"
    done = run(
        *("batch", tmp_path / "in", "sh check", "--base", tmp_path / "tests", "-o", output),
        SANDBOX_URL=sandbox_url,
    )
    assert (done.stdout, done.returncode) == ("", 1)
    found = {line["id"]: line["outcome"] for line in lines(output.read_text())}
    assert found == {"alice": "passed", "bob": "failed"}
    again = run("batch", tmp_path / "in", "sh check", "-o", output, "--resume")
    assert again.stderr.startswith("2 jobs")


def test_resumed_after_a_torn_line(raw_server: RawServer, tmp_path: Path) -> None:
    raw_server.answer = DONE
    jobs, output = write_jobs(tmp_path / "jobs", 7), tmp_path / "results"
    whole = '{"id": %d, "outcome": "passed", "attempts": 1, "seconds": 0.5}'
    output.write_text(f'{whole % 3}\n{whole % 0}\n{{"id": 1, "outc')
    arguments = ("batch", jobs, "-o", output, "--concurrency", "2")
    done = run(*arguments, SANDBOX_URL=raw_server.url)
    assert (done.returncode, "--resume" in done.stderr) == (2, True)
    done = run(*arguments, "--resume", SANDBOX_URL=raw_server.url)
    assert done.returncode == 0
    assert done.stderr.startswith("7 jobs")
    assert sorted(line["id"] for line in lines(output.read_text())) == [*range(7)]
    assert len(raw_server.requests) == 5
    output.write_text(whole % 3)  # whole, but for its end
    assert run(*arguments, "--resume", SANDBOX_URL=raw_server.url).returncode == 0
    assert len(lines(output.read_text())) == 7


def test_two_jobs_of_one_id_are_told(raw_server: RawServer, tmp_path: Path) -> None:
    raw_server.answer = DONE
    jobs, output = write_jobs(tmp_path / "jobs", 2), tmp_path / "results"
    with jobs.open("a") as file:
        file.write('{"id": 0, "config": {"commands": ["echo 0"]}}\n')
    arguments = ("batch", jobs, "--concurrency", "1", "--url", raw_server.url)
    assert run(*arguments).returncode == 0
    done = run(*arguments, "-o", output)
    assert (done.returncode, "two jobs have the id 0" in done.stderr) == (2, True)
    assert [line["id"] for line in lines(output.read_text())][:1] == [0]


def test_errors_are_run_again_where_asked_for(raw_server: RawServer, tmp_path: Path) -> None:
    raw_server.answer = DONE
    jobs, output = tmp_path / "jobs", tmp_path / "results"
    jobs.write_text('{"config": {"commands": ["x"]}, "environ": "files"}\n{"commands": ["y"]}\n')
    arguments = ("batch", jobs, "-o", output, "--concurrency", "1", "--url", raw_server.url)
    done = run(*arguments)
    assert (done.returncode, "--retry-errors" in done.stderr) == (1, True)
    os.mkdir(tmp_path / "files")
    assert run(*arguments, "--resume").returncode == 1
    before = {line["id"]: line for line in lines(output.read_text())}
    output.chmod(0o640)
    assert run(*arguments, "--retry-errors").returncode == 0
    after = {line["id"]: line for line in lines(output.read_text())}
    assert (after[0]["outcome"], after[1]) == ("passed", before[1])
    assert output.stat().st_mode & 0o777 == 0o640
    assert len(raw_server.requests) == 2
    assert sorted(os.listdir(tmp_path)) == ["files", "jobs", "results"]


def test_file_that_has_no_results_is_left_alone(tmp_path: Path) -> None:
    jobs, output = write_jobs(tmp_path / "jobs", 1), tmp_path / "results"
    output.write_text("my diary\nlast words")
    done = run("batch", jobs, "-o", output, "--resume")
    assert (done.returncode, "line 1" in done.stderr) == (2, True)
    assert output.read_text() == "my diary\nlast words"
    output.write_text('{"id": 1}\n{"id": 2, "outcome": "well", "seconds": 1}\n')
    done = run("batch", jobs, "-o", output, "--resume")
    assert (done.returncode, "line 1" in done.stderr) == (2, True)


@pytest.mark.parametrize("output", ["-", "/dev/stdout", "{folder}"])
def test_results_that_could_not_be_gone_on_with(output: str, tmp_path: Path) -> None:
    jobs = write_jobs(tmp_path / "jobs", 1)
    done = run("batch", jobs, "-o", output.format(folder=tmp_path))
    assert done.returncode == 2
    assert "is no file to keep results in; --json prints them" in done.stderr


def test_report_that_can_not_be_written_is_told_before_jobs_run(
    raw_server: RawServer, tmp_path: Path
) -> None:
    jobs, page = write_jobs(tmp_path / "jobs", 1), tmp_path / "none" / "page.html"
    done = run("batch", jobs, "--html", page, SANDBOX_URL=raw_server.url)
    assert done.stderr == f"sandbox-api: {page}: No such file or directory\n"
    assert (done.returncode, raw_server.requests) == (2, [])


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            '{"config": {"commands": ["x"]}, "envron": {"a": "1"}}',
            "a job has no envron, but config, environ, id, meta",
        ),
        ('{"commands": ["x"], "id": "a"}', "id is for a job with a config of its own"),
    ],
)
def test_misplaced_key_of_a_job_is_told(
    line: str, told: str, raw_server: RawServer, tmp_path: Path
) -> None:
    result = {"status": 0, "execution": [], "total_time": 1}
    raw_server.answer = reply("200 OK", json.dumps(result))
    jobs = tmp_path / "jobs"
    jobs.write_text(f'{{"commands": ["x"]}}\n\n{line}\n')
    done = run("batch", jobs, "--concurrency", "1", SANDBOX_URL=raw_server.url)
    assert done.returncode == 2
    assert f"{jobs}, line 3: {told}" in done.stderr
    assert done.stdout.startswith("passed")


def test_folder_without_submissions(tmp_path: Path) -> None:
    (tmp_path / "alice.py").touch()
    (tmp_path / ".git").mkdir()
    done = run("batch", tmp_path, "true", SANDBOX_URL="http://127.0.0.1:1")
    assert done.returncode == 2
    assert f"{tmp_path} has no folders, of which each would be a job" in done.stderr


def test_why_jobs_did_not_pass(raw_server: RawServer, tmp_path: Path) -> None:
    result = {"command": "x", "exit_code": 1, "stdout": "", "stderr": "a\n\x1b[1mb", "time": 1}
    body = {"status": 1, "execution": [result], "total_time": 1}
    raw_server.answer = reply("200 OK", json.dumps(body))
    jobs = tmp_path / "jobs"
    jobs.write_text('{"commands": ["x"]}\n{"config": {"commands": ["x"]}, "environ": "none"}\n')
    done = run("batch", jobs, "--concurrency", "1", SANDBOX_URL=raw_server.url)
    failed, error = sorted(done.stdout.splitlines(), reverse=True)
    assert re.fullmatch(r"failed\t[\d.]+ s\t0\ta \[1mb", failed)
    assert error.endswith(f"\t1\t{tmp_path / 'none'}: No such file or directory")
    silent = {"status": 1, "execution": [{**result, "stderr": ""}], "total_time": 1}
    lacking = {"status": -3, "execution": [], "total_time": 1}
    for body, words in (
        (silent, "'x' failed with exit code 1"),
        (lacking, "the result file was not found"),
    ):
        raw_server.answer = reply("200 OK", json.dumps(body))
        done = run("batch", jobs, "--concurrency", "1", SANDBOX_URL=raw_server.url)
        assert words in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("batch", "{folder}"),
        ("batch", "{jobs}", "true"),
        ("batch", "{jobs}", "--resume"),
        ("batch", "{jobs}", "--url", "localhost"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], tmp_path: Path) -> None:
    jobs = write_jobs(tmp_path / "jobs", 1)
    assert run(*(a.format(folder=tmp_path, jobs=jobs) for a in arguments)).returncode == 2


def test_server_that_is_not_there(raw_server: RawServer, tmp_path: Path) -> None:
    jobs, output = write_jobs(tmp_path / "jobs", 50), tmp_path / "results"
    arguments = ("batch", jobs, "-o", output, "--concurrency", "2")
    done = run(*arguments, "--url", "http://127.0.0.1:1")
    assert (done.returncode, output.read_text()) == (69, "")
    assert "--resume" in done.stderr
    raw_server.answer = reply("503 Service Unavailable")
    done = run(*arguments, "--url", raw_server.url, "--timeout", "0.3")
    assert (done.returncode, output.read_text()) == (75, "")
    raw_server.answer = DONE
    assert run(*arguments, "--resume", SANDBOX_URL=raw_server.url).returncode == 0


def batch(jobs: Path, output: Path, server: RawServer, *, concurrency: int) -> list[str | Path]:
    command: list[str | Path] = [PROGRAM, "batch", jobs, "-o", output]
    return [*command, "--url", server.url, "--concurrency", str(concurrency)]


def test_killed_at_any_moment_and_resumed(raw_server: RawServer, tmp_path: Path) -> None:
    def answer(connection: socket.socket, _: bytes) -> None:
        time.sleep(0.01)
        connection.sendall(DONE)

    raw_server.answer = answer
    count, kills = 1500, 20
    jobs, output = write_jobs(tmp_path / "jobs", count), tmp_path / "results"
    command = batch(jobs, output, raw_server, concurrency=4)
    random.seed(5)
    for _ in range(kills):
        before = output.stat().st_size if output.exists() else -1
        with subprocess.Popen([*command, "--resume"], stderr=subprocess.DEVNULL) as process:
            until = time.monotonic() + 20
            while not (output.exists() and output.stat().st_size > before):
                assert time.monotonic() < until
                time.sleep(0.002)
            time.sleep(random.random() * 0.1)
            assert process.poll() is None
            process.send_signal(signal.SIGKILL)
    assert 0 < len(output.read_bytes().splitlines()) < count
    assert run(*command[1:], "--resume").returncode == 0
    assert sorted(line["id"] for line in lines(output.read_text())) == [*range(count)]


def test_interrupted(raw_server: RawServer, tmp_path: Path) -> None:
    reached = threading.Event()

    def answer(connection: socket.socket, _: bytes) -> None:
        if len(raw_server.requests) > 3:
            reached.set()
            connection.recv(1)  # until it hangs up
        else:
            connection.sendall(DONE)

    raw_server.answer = answer
    jobs, output = write_jobs(tmp_path / "jobs", 9), tmp_path / "results"
    command = batch(jobs, output, raw_server, concurrency=2)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert reached.wait(20)
        while len(output.read_bytes().splitlines()) < 3:
            time.sleep(0.01)
        started = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert time.monotonic() - started < 5
    assert errors.startswith("3 jobs")
    assert "Traceback" not in errors
    assert len(lines(output.read_text())) == 3


def test_interrupted_while_a_result_is_written(
    raw_server: RawServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    raw_server.answer = DONE
    jobs, output = write_jobs(tmp_path / "jobs", 20), tmp_path / "results"
    request = Request(
        jobs=jobs,
        config={},
        base=None,
        output=output,
        resume=False,
        retry_errors=False,
        concurrency=2,
        dask=None,
        html=None,
        as_json=False,
    )
    synchronize = os.fsync

    def interrupting(descriptor: int) -> None:
        synchronize(descriptor)
        if output.read_bytes():
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(os, "fsync", interrupting)
    before = signal.getsignal(signal.SIGINT)
    assert run_batch(request, lambda: Sandbox(raw_server.url)) == 130
    assert signal.getsignal(signal.SIGINT) is before
    # What had ended meanwhile is there too, and no more are begun.
    written = len(lines(output.read_text()))
    assert 1 <= written < 20
    assert capsys.readouterr().err.startswith(f"{written} job")


@pytest.mark.parametrize(
    ("status", "words"), [("400 Bad Request", "no &lt;such&gt; thing"), ("503 Busy", "No job has")]
)
def test_report_of_what_did_not_work(
    status: str, words: str, raw_server: RawServer, tmp_path: Path
) -> None:
    raw_server.answer = reply(status, "no <such> thing")
    jobs, page = write_jobs(tmp_path / "jobs", 1), tmp_path / "report.html"
    options = ("--html", page, "--concurrency", "1", "--timeout", "1")
    assert run("batch", jobs, *options, SANDBOX_URL=raw_server.url).returncode != 0
    assert words in page.read_text()


@pytest.mark.cluster("chromium")
def test_report(raw_server: RawServer, tmp_path: Path) -> None:
    def answer(connection: socket.socket, request: bytes) -> None:
        status = 1 if b"echo 3" in request else 0
        stderr = "<script>document.title = 'hacked'</script>"
        result = {"command": "x", "exit_code": status, "stdout": "", "stderr": stderr, "time": 1}
        body = {"status": status, "execution": [result], "total_time": 1}
        connection.sendall(reply("200 OK", json.dumps(body)))

    raw_server.answer = answer
    jobs, page = write_jobs(tmp_path / "jobs", 12), tmp_path / "report.html"
    done = run("batch", jobs, "--html", page, "--concurrency", "2", SANDBOX_URL=raw_server.url)
    assert done.returncode == 1
    with browsing(tmp_path / "profile") as tab:
        tab.open(page.as_uri())
        assert tab.run("document.querySelectorAll('#jobs tbody tr').length") == 12
        assert tab.run("document.querySelectorAll('svg rect').length") > 12
        assert tab.run("document.title") == str(jobs)
        assert "11 passed, 1 failed" in tab.run("document.getElementById('summary').innerText")
        assert "<script>" in tab.run("document.querySelector('#jobs pre').innerText")
        assert tab.complaints == []
        assert all(url.startswith(("file:", "about:")) for url in tab.urls)
        for width in (375, 1280):
            tab.size(width, 800)
            assert tab.run("document.documentElement.scrollWidth") <= width
            # No word is broken: each cell of one has the height of one line.
            broken = (
                "[...document.querySelectorAll('th, td:not(:last-child)')].filter(each => {"
                " const range = document.createRange(); range.selectNodeContents(each);"
                " return range.getClientRects().length > 1; }).map(each => each.innerText)"
            )
            assert tab.run(broken) == []
