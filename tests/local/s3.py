"""A server of S3 on loopback: moto, in a process of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

BUCKET = "environments-of-tests"
SECRETS = {
    "AWS_ACCESS_KEY_ID": "AKIA-the-test-key",
    "AWS_SECRET_ACCESS_KEY": "the-test/secret+of-s3",
}

SERVER = """
import sys, threading
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""


class S3:
    """A running server, and the variables by which clients find it and get in."""

    def __init__(self) -> None:
        # It logs each request.
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdout
        port = self.process.stdout.readline().strip()
        self.variables = {
            **SECRETS,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            # Whatever the machine has.
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        self.client("create_bucket", Bucket=BUCKET)

    def client(self, method: str, **options: Any) -> Any:
        """Call a method of the server, by a client of its own."""
        import boto3

        client: Any = boto3.client(
            "s3",
            region_name="us-east-1",
            endpoint_url=self.variables["AWS_ENDPOINT_URL"],
            aws_access_key_id=SECRETS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=SECRETS["AWS_SECRET_ACCESS_KEY"],
        )
        with contextlib.closing(client):
            return getattr(client, method)(**options)

    def names(self, prefix: str) -> list[str]:
        """Return the names of all objects below a prefix."""
        found = self.client("list_objects_v2", Bucket=BUCKET, Prefix=prefix)
        return [each["Key"].removeprefix(prefix) for each in found.get("Contents", [])]

    def stop(self) -> None:
        """Stop it."""
        self.process.kill()
        self.process.communicate()


@contextlib.contextmanager
def s3_server() -> Iterator[S3]:
    """Run a server for as long as the context lasts."""
    server = S3()
    try:
        yield server
    finally:
        server.stop()
