"""Servers that share a store of S3, behind nginx as the documents show it."""

from __future__ import annotations

import io
import json
import random
import ssl
import subprocess
import tarfile
import threading
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import httpx
import pytest

from sandbox_api import Sandbox, SandboxError, SandboxFailure

from ..conftest import tgz
from ..local.public import Public, serving, wait_for
from ..local.s3 import BUCKET, S3, SECRETS, s3_server
from ..servers import RawServer, reply
from .nginx import balancing, configured

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.cluster("nginx")


@dataclass
class Cluster:
    """Two servers behind nginx."""

    url: str
    certificate: Path
    servers: list[Public]
    s3: S3
    folder: str

    def client(self, url: str | None = None, **options: Any) -> Sandbox:
        """Return a client of all servers, or of one."""
        return Sandbox(url or self.url, verify=str(self.certificate), **options)

    def direct(self) -> list[Sandbox]:
        """Return a client of each server."""
        return [self.client(server.url) for server in self.servers]

    def lines(self) -> list[dict[str, Any]]:
        """Return what all servers logged of executions."""
        lines = [line for server in self.servers for line in server.lines if line.startswith("{")]
        return [line for line in map(json.loads, lines) if line.get("operation") == "execute"]


@pytest.fixture
def cluster(certificate: Path, tmp_path: Path) -> Iterator[Cluster]:
    folder = uuid.uuid4().hex
    with ExitStack() as stack:
        s3 = stack.enter_context(s3_server())
        options = ("--log-format", "json", "--slots", "3", "--wait", "5")
        url = f"s3://{BUCKET}/{folder}"
        servers = [stack.enter_context(serving(url, *options, **s3.variables)) for _ in range(2)]
        upstreams = [server.url.removeprefix("http://") for server in servers]
        balancer = stack.enter_context(balancing(tmp_path, upstreams, certificate))
        yield Cluster(balancer, certificate, servers, s3, folder)


def members(archive: IO[bytes]) -> dict[str, bytes]:
    """Return the files of an archive; fail when it is not whole."""
    with tarfile.open(fileobj=archive, mode="r:gz") as file:
        return {each.name: content.read() for each in file if (content := file.extractfile(each))}


def test_an_environment_saved_through_one_server_is_used_on_the_other(cluster: Cluster) -> None:
    one, other = cluster.direct()
    # Larger than nginx takes by default, and than a part of an upload.
    data = random.Random(1).randbytes(9_000_000)
    with one, other, cluster.client() as all_of_them:
        saved = one.execute({"commands": ["echo made > made"], "save": True}, tgz({"data": data}))
        assert saved.environment is not None
        for sandbox in (other, all_of_them, all_of_them):
            config = {"commands": ["cat made; wc -c < data"], "environment": saved.environment}
            done = sandbox.execute(config)
            assert done.execution[0].stdout.split() == ["made", "9000000"]
            archive = sandbox.download(saved.environment)
            assert members(archive) == {"made": b"made\n", "data": data}
            assert sandbox.check(saved.environment)
            assert sandbox.download(saved.environment, "data").read() == data
        sent = all_of_them.execute({"commands": ["wc -c < data"]}, tgz({"data": data}))
        assert sent.execution[0].stdout == "9000000"
    # Of those that came by nginx; the other two have none.
    wait_for(lambda: len(cluster.lines()) == 5)
    assert len({line.get("request_id") for line in cluster.lines()}) == 4
    for path in ("/metrics", "/activity"):
        verify = ssl.create_default_context(cafile=str(cluster.certificate))
        assert httpx.get(f"{cluster.url}{path}", verify=verify).status_code == 404


def test_a_server_that_is_killed_under_load_loses_nothing_that_was_promised(
    cluster: Cluster,
) -> None:
    promised: dict[uuid.UUID, bytes] = {}
    failed: list[Exception] = []
    enough = threading.Event()
    sent = Counter[str]()

    def save(number: int) -> None:
        chance = random.Random(number)
        with cluster.client(retries=5) as sandbox:
            while not enough.is_set():
                # Some in one piece, some in parts.
                content = chance.randbytes(chance.choice([100, 200_000, 9_000_000]))
                name = f"{number}-{sent.total()}-{uuid.uuid4().hex}"
                sent[name] += 1
                config = {"commands": ["true"], "save": True}
                try:
                    done = sandbox.execute(
                        config, tgz({"content": content}), headers={"X-Request-ID": name}
                    )
                except (SandboxError, SandboxFailure) as error:
                    failed.append(error)
                else:
                    assert done.environment is not None
                    promised[done.environment] = content

    with ThreadPoolExecutor(4) as pool:
        saving = [pool.submit(save, number) for number in range(4)]
        try:
            wait_for(lambda: len(promised) > 8)
            cluster.servers[0].process.kill()
            cluster.servers[0].process.wait()
            before = len(promised)
            wait_for(lambda: len(promised) > before + 12)
        finally:
            enough.set()
        for each in saving:
            each.result()

    # Only what ran on it was lost, and the client was told.
    assert len(failed) <= 4, failed
    with cluster.client() as sandbox:
        for identifier, content in promised.items():
            assert members(sandbox.download(identifier)) == {"content": content}
    # What was saved and not promised, too, is whole.
    names = cluster.s3.names(f"{cluster.folder}/environments/")
    assert len(promised) <= len(names) <= len(promised) + len(failed)
    for name in names:
        key = f"{cluster.folder}/environments/{name}"
        content = cluster.s3.client("get_object", Bucket=BUCKET, Key=key)["Body"].read()
        assert list(members(io.BytesIO(content))) == ["content"]
    # And nothing was executed twice.
    executed = Counter(line["request_id"] for line in cluster.lines() if line["status"] == 200)
    assert set(executed.values()) == {1}
    assert set(executed) <= set(sent)
    log = "".join(server.text for server in cluster.servers)
    assert not any(secret in log for secret in SECRETS.values())


def test_nginx_takes_the_configuration(certificate: Path, tmp_path: Path) -> None:
    command = configured(tmp_path, 443, ["192.0.2.11:7000", "192.0.2.12:7000"], certificate)
    done = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "[warn]" not in done.stderr


def test_an_execution_is_never_sent_twice_and_what_reads_is(
    certificate: Path, tmp_path: Path
) -> None:
    def die(connection: Any, _: bytes) -> None:
        connection.close()

    verify = ssl.create_default_context(cafile=str(certificate))
    with RawServer() as dying, RawServer() as living:
        dying.answer = die
        living.answer = reply(body="well")
        upstreams = [server.url.removeprefix("http://") for server in (dying, living)]
        with (
            balancing(tmp_path, upstreams, certificate) as url,
            httpx.Client(base_url=url, verify=verify, timeout=30) as client,
        ):
            posts = [client.post("/execute/", data={"config": "{}"}) for _ in range(2)]
            # After a failure a server is left alone for a while.
            assert sorted(answer.status_code for answer in posts) == [200, 502]
            assert len(dying.requests) == len(living.requests) == 1
            assert client.get("/usages/").text == "well"
        (tmp_path / "again").mkdir()
        with (
            balancing(tmp_path / "again", upstreams, certificate) as url,
            httpx.Client(base_url=url, verify=verify, timeout=30) as client,
        ):
            for _ in range(2):
                answer = client.get("/usages/", headers={"X-Request-ID": "mine"})
                assert answer.text == "well"
            assert b"mine" in living.requests[-1]
            assert f"Host: {url.removeprefix('https://')}".encode() in living.requests[-1]
    with RawServer() as living:
        living.answer = reply(body="well")
        upstreams = [dying.url.removeprefix("http://"), living.url.removeprefix("http://")]
        (tmp_path / "gone").mkdir()
        with (
            balancing(tmp_path / "gone", upstreams, certificate) as url,
            httpx.Client(base_url=url, verify=verify, timeout=30) as client,
        ):
            # Nothing was sent to one that is not there.
            posts = [client.post("/execute/", data={"config": "{}"}) for _ in range(3)]
            assert [answer.status_code for answer in posts] == [200] * 3
