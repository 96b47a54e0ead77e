"""Test code that uses a sandbox, without one: what it sends is recorded, what it gets is scripted.

A FakeSandbox is a Sandbox whose requests are answered by a FakeServer in the same process. All but
the wire is real: configurations and files are checked, results are of the same classes, and errors
are the same exceptions. Nothing is run: what the commands do is yours to say.

Examples:

    >>> from sandbox_api.testing import FakeSandbox
    >>> sandbox = FakeSandbox()
    >>> sandbox.server.script("4")
    >>> sandbox.execute({"commands": ["echo $((2+2))"]}).execution[0].stdout
    '4'
    >>> sandbox.server.calls[-1].config["commands"]
    ['echo $((2+2))']

The fixtures of pytest are in `sandbox_api.pytest_plugin`.
"""

from __future__ import annotations

import functools
import io
import json
import re
import tarfile
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from importlib import resources
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeAlias, Unpack
from urllib.parse import unquote
from uuid import UUID

import httpx
from attrs import define, field, fields, frozen

from sandbox_client.models import CommandResult, ExecuteConfig, ExecutionResult, SandboxErrCode

from ._hooks import marked_hooks
from ._operations import STORE
from ._settings import USER_AGENT, Settings, merged
from .asandbox import ASandbox
from .environment import open_environment
from .exceptions import (
    ConnectionFailed,
    InvalidEnvironment,
    InvalidReply,
    SandboxError,
    TimedOut,
)
from .sandbox import Sandbox

if TYPE_CHECKING:
    from ._local import Isolation
    from ._options import ClientOptions
    from .environment import EnvironmentSource

__all__ = ["FakeASandbox", "FakeCall", "FakeSandbox", "FakeServer", "Outcome", "Reply"]

URL = "http://sandbox.test"
"""Where a fake sandbox says to be, unless told otherwise. Nothing can be there: see RFC 2606."""


@frozen
class Outcome:
    """What a command did, and left behind.

    Examples:

        >>> sandbox.server.script(Outcome(stderr="no rule to make target", exit_code=2))
        >>> sandbox.execute({"commands": ["make"]}).ok
        False
    """

    stdout: str = ""
    """Standard output; white space at both ends is stripped, as by a server."""

    stderr: str = ""
    """Standard error, likewise."""

    exit_code: int = 0
    """The exit code, or a SandboxErrCode: -2 is a command that timed out. Its `stderr` says so,
    where the command has a time-out and you give no other."""

    files: Mapping[str, str | bytes] = field(factory=dict[str, str | bytes])
    """Files that it wrote: what `result_path` is read from, and what `save` stores."""

    time: float = 0.0
    """How long it says to have taken, in seconds."""


@frozen
class FakeCall:
    """A request that a FakeServer received."""

    operation: str
    """Its name in the description of the server: `execute`, `usage`, `download_file` …; `store` for
    the execution by which `store()`, or `grade()` with a base, uploads; the path, without the
    slashes around it, where that is not described."""

    request: httpx.Request
    """The request itself, already read."""

    config: dict[str, Any] = field(factory=dict[str, Any])
    """For `execute` and `store`, the configuration, as it travelled."""

    files: dict[str, bytes] = field(factory=dict[str, bytes])
    """For `execute` and `store`, the files that commands find: those of the stored environment, and
    over them those that were uploaded."""

    parameters: dict[str, str] = field(factory=dict[str, str])
    """What is in the path: `uuid` and, for a file, `path`."""


Reply: TypeAlias = (
    Outcome
    | str
    | bytes
    | Mapping[str, Any]
    | Sequence[Any]
    | Exception
    | type[Exception]
    | httpx.Response
    | Callable[[FakeCall], Any]
)
"""What a FakeServer can be told to answer.

* An Outcome, or a str for `Outcome(stdout=...)`: of the last command; those before succeed.
* A list of these: of the commands, in order. The first that fails ends the run, as on a server.
* A mapping: members to put into the answer, in place of those made up, right or wrong.
* What the call is to raise: `ConnectionFailed`, `TimedOut`, `InvalidReply`; an exception of httpx;
  `Sandbox503`, or one with the server's words, as `Sandbox400(httpx.Response(400, text="…"))`.
* bytes, the body of the answer; or a whole `httpx.Response`.
* A function of the FakeCall that returns any of these. What it raises itself, as an assertion does,
  comes out of the call.
"""


@define
class FakeServer:
    """What answers fake sandboxes: several may share one, of either flavour.

    Without a script, commands succeed and print nothing, and `specifications`, `usage` and
    `libraries` answer the examples of the server's description. Environments that were saved, or
    stored by `store()`, can be downloaded, checked and started from, as on a server.

    Examples:

        >>> server = FakeServer()
        >>> monkeypatch.setattr("grader.Sandbox", server.sandbox)
        >>> server.script(Sandbox503, "17/20")
    """

    calls: list[FakeCall] = field(factory=list[FakeCall], init=False)
    """All requests, in order, retries included."""

    environments: dict[str, dict[str, bytes]] = field(
        factory=dict[str, dict[str, bytes]], init=False
    )
    """The files of each stored environment, by its id."""

    _scripts: defaultdict[str, deque[Reply]] = field(
        factory=functools.partial(defaultdict[str, deque[Reply]], deque), init=False, repr=False
    )
    _otherwise: dict[str, Reply] = field(factory=dict[str, Reply], init=False, repr=False)

    def script(self, *replies: Reply, to: str = "execute") -> None:
        """Answer the next calls so, one reply for each, after those scripted before.

        Calls take them in the order in which they arrive, which is random where several are made
        at once, as by `execute_many` and `grade`: there, say `concurrency=1`, or give `always` a
        function of the call. What is stored is scripted by `to="store"` only.

        Args:
            replies: what to answer; see Reply.
            to: the operation: see `FakeCall.operation`.

        Raises:
            KeyError: there is no such operation. Paths of your own have a slash.

        Examples:

            >>> server.script("first", Outcome("second", exit_code=1))
            >>> server.script(TimedOut, to="usage")
            >>> server.script(Sandbox503, to="store")
        """
        self._scripts[known(to)] += replies

    def always(self, reply: Reply, to: str = "execute") -> None:
        """Answer all calls so for which nothing is scripted.

        Examples:

            >>> server.always(lambda call: f"ran {call.config['commands']}")
        """
        self._otherwise[known(to)] = reply

    def store(self, environment: EnvironmentSource) -> str:
        """Store an environment, as if it had been saved, and return its id.

        Examples:

            >>> sandbox.environment(server.store({"marks": "17"})).read_text("marks")
            '17'
        """
        with open_environment(environment) as stream:
            return self._keep(unpacked(stream.read()))

    @property
    def sandbox(self) -> type[FakeSandbox]:
        """A FakeSandbox whose clients this server answers, to stand in the place of Sandbox."""
        return type("FakeSandbox", (FakeSandbox,), {"_shared": self})

    @property
    def asandbox(self) -> type[FakeASandbox]:
        """A FakeASandbox whose clients this server answers, to stand in the place of ASandbox."""
        return type("FakeASandbox", (FakeASandbox,), {"_shared": self})

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer a request: a FakeServer is what `httpx.MockTransport` takes.

        Examples:

            >>> client = httpx.Client(transport=httpx.MockTransport(server))
            >>> sandbox = MySandbox("http://any", http_client=client)
        """
        operation, parameters = find(request)
        call = FakeCall(operation, request, parameters=parameters)
        refusal: httpx.Response | None = None
        if operation == "execute":
            try:
                call = self._executed(request)
            except LookupError as error:
                refusal = httpx.Response(404, text=str(error))
            except ValueError as error:
                refusal = httpx.Response(400, text=str(error))
        self.calls.append(call)
        if refusal is not None:
            return refusal
        scripted = self._scripts[call.operation]
        return self._answer(
            call, scripted.popleft() if scripted else self._otherwise.get(call.operation)
        )

    def _executed(self, request: httpx.Request) -> FakeCall:
        """Return the call of an execution.

        Raises:
            LookupError: it starts from an environment that is not stored.
            ValueError: it is not what a server takes.
        """
        form = parts(request)
        config = ExecuteConfig.from_dict(json.loads(form["config"]))
        files: dict[str, bytes] = {}
        if config.environment:
            identifier = str(config.environment)
            if identifier not in self.environments:
                raise LookupError(f"No environment with UUID '{identifier}' found")
            files |= self.environments[identifier]
        if "environment" in form:
            files |= unpacked(form["environment"])
        if (path := config.result_path) and (path.startswith("/") or ".." in path.split("/")):
            raise ValueError(f"result_path must stay in the working directory, not {path!r}")
        # Whoever scripts what commands do means those of their own.
        operation = "store" if "environment" in form and config == STORE else "execute"
        return FakeCall(operation, request, config, files)

    def _answer(self, call: FakeCall, reply: Reply | None) -> httpx.Response:
        while callable(reply) and not isinstance(reply, type):
            reply = reply(call)
        if isinstance(reply, (type, Exception)):
            return failed(reply)
        if isinstance(reply, httpx.Response):
            return copied(reply)
        if isinstance(reply, bytes):
            return httpx.Response(200, content=reply)
        if call.operation in {"execute", "store"}:
            made: Any = self._run(call, reply)
        elif reply is None:
            return self._usual(call)
        elif isinstance(reply, Mapping):
            made = examples().get(call.operation, {})
        else:
            return httpx.Response(200, json=reply)
        return httpx.Response(200, json={**made, **reply} if isinstance(reply, Mapping) else made)

    def _run(self, call: FakeCall, reply: Any) -> ExecutionResult:
        """Return the answer to an execution whose commands did what the reply says."""
        execution: list[CommandResult] = []
        status, files = 0, dict(call.files)
        commands = [
            (each, None) if isinstance(each, str) else (str(each["command"]), each.get("timeout"))
            for each in call.config["commands"]
        ]
        said = outcomes(reply, len(commands))
        for (command, bound), outcome in zip(commands, said, strict=True):
            code = outcome.exit_code
            output = outcome.stdout.strip(), outcome.stderr.strip()
            if code == SandboxErrCode.TIMEOUT and bound and not output[1]:
                output = output[0], f"Command timed out after {bound} seconds\n"
            execution.append(CommandResult(command.removeprefix("-"), code, *output, outcome.time))
            for name, content in outcome.files.items():
                files[name] = content.encode() if isinstance(content, str) else content
            if code and not command.startswith("-"):
                status = code
                break
        made = ExecutionResult(status, execution, sum(each.time for each in execution))
        path = call.config.get("result_path")
        if path is not None and not (isinstance(reply, Mapping) and "result" in reply):
            try:
                made["result"] = files[path].decode()
            except KeyError:
                made["status"] = SandboxErrCode.RESULT_NOT_FOUND
            except UnicodeDecodeError:
                made["status"] = SandboxErrCode.RESULT_NOT_UTF8
        if call.config.get("save"):
            made["environment"] = self._keep(files)
            made["expire"] = (datetime.now(UTC) + timedelta(days=1)).isoformat()
        return made

    def _usual(self, call: FakeCall) -> httpx.Response:
        """Return the answer to what is not scripted."""
        if "uuid" not in call.parameters:
            shown = examples().get(call.operation)
            return httpx.Response(200, json=shown) if shown else httpx.Response(404)
        uuid, path = call.parameters["uuid"], call.parameters.get("path")
        environment = self.environments.get(uuid)
        if environment is None:
            return httpx.Response(404, text=f"No environment with UUID '{uuid}' found")
        if path is None:
            with open_environment(environment) as stream:
                content = stream.read()
        elif path in environment:
            content = environment[path]
        else:
            words = f"The file '{path}' could not be found in environment '{uuid}'"
            return httpx.Response(404, text=words)
        if call.request.method == "HEAD":
            return httpx.Response(200, headers={"Content-Length": str(len(content))})
        return httpx.Response(200, content=content)

    def _keep(self, files: dict[str, bytes]) -> str:
        # Counted, so that what a test sees is the same each time.
        uuid = str(UUID(int=len(self.environments) + 1))
        self.environments[uuid] = files
        return uuid


class FakeSandbox(Sandbox):
    """A Sandbox with a server of its own that is no server: see FakeServer.

    It is made as a Sandbox is, so that it can stand in its place; no option makes it send anything.
    A subclass of yours becomes a fake in `class FakePlatform(FakeSandbox, Platform)`.

    Args:
        url: where it says to be; `http://sandbox.test` if not given.
        timeout: as in Sandbox. No time passes, so only a scripted TimedOut is one.
        server: what answers; one of its own if not given.
        http_client: is left aside.
        options: as in Sandbox, but for `retries`, which is 0 if not given: each fault is seen.

    Examples:

        >>> sandbox = FakeSandbox()
        >>> sandbox.server.script(Sandbox503)
        >>> sandbox.execute({"commands": ["true"]})
        Traceback (most recent call last):
        sandbox_api.exceptions.Sandbox503: POST http://sandbox.test/execute/: 503 ...
    """

    _shared: ClassVar[FakeServer | None] = None

    def __init__(
        self,
        url: str | httpx.URL | None = None,
        timeout: float | None = 60,
        *,
        server: FakeServer | None = None,
        http_client: httpx.Client | None = None,
        **options: Unpack[ClientOptions],
    ) -> None:
        options.setdefault("retries", 0)
        super().__init__(url or URL, timeout, http_client=http_client, **options)
        self.server = server or self._shared or FakeServer()
        """What answers: script it, and see what it was sent."""
        self._given = None
        self._settings = FakeSettings.over(self._settings, self.server)

    @classmethod
    def local(
        cls,
        timeout: float | None = 60,
        *,
        isolation: Isolation = "bubblewrap",
        image: str | None = None,
        run_time: float = 10.0,
        **options: Unpack[ClientOptions],
    ) -> Self:
        """Return a fake: nothing is started."""
        return cls(None, timeout, **options)


class FakeASandbox(ASandbox):
    """An ASandbox with a server of its own that is no server: see FakeSandbox.

    Examples:

        >>> async with FakeASandbox() as sandbox:
        ...     sandbox.server.script("4")
        ...     result = await sandbox.execute({"commands": ["echo $((2+2))"]})
        >>> result.execution[0].stdout
        '4'
    """

    _shared: ClassVar[FakeServer | None] = None

    def __init__(
        self,
        url: str | httpx.URL | None = None,
        total: float | None = 60,
        connect: float | None = None,
        sock_connect: float | None = None,
        sock_read: float | None = None,
        *,
        server: FakeServer | None = None,
        http_client: httpx.AsyncClient | None = None,
        **options: Unpack[ClientOptions],
    ) -> None:
        options.setdefault("retries", 0)
        super().__init__(
            url or URL,
            total,
            connect,
            sock_connect,
            sock_read,
            http_client=http_client,
            **options,
        )
        self.server = server or self._shared or FakeServer()
        """What answers: script it, and see what it was sent."""
        self._given = None
        self._settings = FakeSettings.over(self._settings, self.server)

    @classmethod
    def local(
        cls,
        total: float | None = 60,
        connect: float | None = None,
        sock_connect: float | None = None,
        sock_read: float | None = None,
        *,
        isolation: Isolation = "bubblewrap",
        image: str | None = None,
        run_time: float = 10.0,
        **options: Unpack[ClientOptions],
    ) -> Self:
        """Return a fake: nothing is started."""
        return cls(None, total, connect, sock_connect, sock_read, **options)


@frozen(repr=False)
class FakeSettings(Settings):
    """Settings whose clients reach a FakeServer, and nothing else."""

    server: FakeServer

    @classmethod
    def over(cls, settings: Settings, server: FakeServer) -> FakeSettings:
        """Return the settings given, for a fake."""
        same = {each.name: getattr(settings, each.name) for each in fields(Settings)}
        return cls(**same, server=server)

    def client(self) -> httpx.Client:
        """Return a client that sends nothing."""
        return httpx.Client(**self._fake())

    def async_client(self) -> httpx.AsyncClient:
        """Return a client that sends nothing."""
        return httpx.AsyncClient(**self._fake())

    def _fake(self) -> dict[str, Any]:
        # No certificate is loaded, and no proxy asked.
        options = self.options
        return {
            "transport": httpx.MockTransport(self.server),
            "auth": options.get("auth"),
            "cookies": options.get("cookies"),
            "headers": merged({"User-Agent": USER_AGENT}, options.get("headers", {})),
            "event_hooks": marked_hooks(options.get("hooks", {})),
            "trust_env": False,
        }


def outcomes(reply: Any, count: int) -> list[Outcome]:
    """Return what each of some commands did, a silent success where nothing is said.

    Raises:
        TypeError: the reply does not go with an execution of so many commands.
    """
    if reply is None or isinstance(reply, Mapping):
        said: list[Any] = []
    elif isinstance(reply, (str, Outcome)):
        said = [""] * (count - 1) + [reply]
    else:
        said = [*reply] if isinstance(reply, (list, tuple)) else [reply]
    found = [Outcome(each) if isinstance(each, str) else each for each in said]
    if len(found) > count or not all(isinstance(each, Outcome) for each in found):
        raise TypeError(f"{reply!r} is no reply to an execution of {count} command(s)")
    return found + [Outcome()] * (count - len(found))


def copied(response: httpx.Response) -> httpx.Response:
    """Return a response that was not sent before: one may be scripted for many calls."""
    headers = response.headers.copy()
    headers.pop("Content-Encoding", None)  # its content is decoded
    return httpx.Response(response.status_code, headers=headers, content=response.content)


def failed(fault: Exception | type[Exception]) -> httpx.Response:
    """Return what makes a call raise an exception, or raise what does.

    Raises:
        TypeError: no server can.
    """
    if isinstance(fault, SandboxError):
        return copied(fault.response)
    if isinstance(fault, httpx.RequestError):
        raise fault
    kind = fault if isinstance(fault, type) else type(fault)
    if issubclass(kind, SandboxError) and (found := re.fullmatch(r"Sandbox(\d+)", kind.__name__)):
        return httpx.Response(int(found[1]))
    if issubclass(kind, httpx.RequestError):
        raise kind("the connection was broken")
    if kind is ConnectionFailed:
        raise httpx.ConnectError("a fake that can't be reached")
    if kind is TimedOut:
        raise httpx.ReadTimeout("a fake that says nothing")
    if kind is InvalidReply:
        return httpx.Response(200, text="This is no JSON.")
    raise TypeError(f"no answer of a server makes a call raise {fault!r}")


def find(request: httpx.Request) -> tuple[str, dict[str, str]]:
    """Return the operation that a request asks for, and the parameters in its path."""
    path = request.url.raw_path.partition(b"?")[0].decode("ascii")
    found = [
        (match.start(), name, match.groupdict())
        for method, name, shape in operations()
        if method == request.method and (match := shape.search(path))
    ]
    if not found:
        return unquote(path.strip("/")), {}
    # A path may end like another.
    _, name, parameters = min(found, key=lambda each: each[0])
    return name, {
        # Names of files need not be UTF-8.
        key: unquote(value, errors="surrogateescape")
        for key, value in parameters.items()
    }


@functools.cache
def description() -> dict[str, Any]:
    """Return the description of the server."""
    text = (resources.files("sandbox_client") / "openapi.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


@functools.cache
def operations() -> list[tuple[str, str, re.Pattern[str]]]:
    """Return method, name and path, behind any prefix, of each operation."""
    found: list[tuple[str, str, re.Pattern[str]]] = []
    for path, item in description()["paths"].items():
        shape = path.replace("{uuid}", "(?P<uuid>[^/]+)").replace("{path}", "(?P<path>.+)")
        found += [
            (method.upper(), each["operationId"], re.compile(f"{shape}$"))
            for method, each in item.items()
            if method != "parameters"
        ]
    return found


@functools.cache
def examples() -> dict[str, Any]:
    """Return the description's examples of answers, by operation."""
    return {
        item["get"]["operationId"]: content["example"]
        for item in description()["paths"].values()
        if "get" in item
        for content in item["get"]["responses"]["200"]["content"].values()
        if "example" in content
    }


def known(name: str) -> str:
    """Return the name of an operation, or the path of one of yours.

    Raises:
        KeyError: there is none of this name.
    """
    names = {"store", *(operation for _, operation, _ in operations())}
    if name not in names and "/" not in name:
        raise KeyError(f"there is no operation {name!r}, only {', '.join(sorted(names))}")
    return name.strip("/")


def parts(request: httpx.Request) -> dict[str, bytes]:
    """Return the fields of a form, as httpx writes it.

    Raises:
        ValueError: it is none.
    """
    boundary = request.headers.get("Content-Type", "").partition("boundary=")[2]
    if not boundary:
        raise ValueError("Missing argument 'config'")
    form: dict[str, bytes] = {}
    # The boundary is random, so no field holds it.
    for part in request.content.split(f"--{boundary}".encode())[1:-1]:
        head, _, content = part.partition(b"\r\n\r\n")
        if name := re.search(rb' name="(.*?)"', head):
            form[name[1].decode()] = content.removesuffix(b"\r\n")
    if "config" not in form:
        raise ValueError("Missing argument 'config'")
    return form


def unpacked(archive: bytes) -> dict[str, bytes]:
    """Return the files of an environment.

    Raises:
        InvalidEnvironment: it is no gzipped tar archive.
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as members:
            files = ((each.name, members.extractfile(each)) for each in members)
            return {name: file.read() for name, file in files if file is not None}
    except (tarfile.TarError, EOFError, OSError) as error:
        raise InvalidEnvironment(f"the environment is no gzipped tar archive: {error}") from error
