"""The sandbox, synchronously."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack, overload

import httpx

from . import _operations
from ._deadline import Until
from ._exchange import Exchange
from ._options import seconds, whole
from ._results import ExecutionFailed, ExecutionResult, Stored, bind
from ._settings import Settings
from ._urls import redacted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from concurrent.futures import Executor
    from datetime import datetime
    from pathlib import Path
    from types import TracebackType
    from uuid import UUID

    from sandbox_client.models import (
        ExecuteConfig,
        ExecuteConfigDict,
        Libraries,
        Specifications,
        Usage,
    )
    from sandbox_client.types import Model

    from ._crew import Crew, Ended
    from ._local import Isolation
    from ._operations import Call
    from ._options import CallOptions, ClientOptions
    from .batch import BatchOptions, Config, Job, JobResult, Progress
    from .environment import EnvironmentFile, EnvironmentSource
    from .local import LocalServer

T = TypeVar("T")
M = TypeVar("M", bound="Model")


class Sandbox:
    """A sandbox server, which runs commands in isolated containers.

    Every method raises a SandboxError where the server answers a status of 300 or above, and a
    SandboxFailure where it gives no answer, or none that makes sense. A call is tried again where
    the server can't have started the work: it could not be reached, or answered 429 or 503; GET
    and HEAD also where the connection broke, or a proxy answered 502 or 504.

    A sandbox may be shared between threads, survives a fork, and can be pickled. Its connections
    are closed by `close()`, at the end of a `with` block, or when it goes out of use. Subclass it
    to add endpoints of your own server, with `request()`.

    Args:
        url: where the server is: `http://host[:port][/prefix]`, https likewise, or
            `unix:///path/to.sock`; the environment variable SANDBOX_URL when not given.
        timeout: how long a call may take, retries included, in seconds; None or 0 is for ever.
            Executions take 10 seconds or more where their commands do, so keep it above that.
        http_client: an httpx.Client of your own to send requests with, which is not closed. It has
            settings of its own: no option but `retries` goes with it.
        options: headers, proxies, TLS, …: see ClientOptions.

    Raises:
        InvalidURL: the URL cannot be used, or there is none.
        TypeError: an argument is of the wrong kind, hooks of the other flavour among them.
        ValueError: a header or cookie can't be sent, or `retries` is negative.

    Examples:

        >>> sandbox = Sandbox("http://localhost:7000")
        >>> sandbox.execute({"commands": ["echo $((2+2))"]}).execution[0].stdout
        '4'
    """

    def __init__(
        self,
        url: str | httpx.URL | None = None,
        timeout: float | None = 60,
        *,
        http_client: httpx.Client | None = None,
        **options: Unpack[ClientOptions],
    ) -> None:
        self._settings = Settings.of(url, options, given=http_client, awaited=False)
        seconds("timeout", timeout)
        self.timeout = timeout
        self._given = http_client
        if http_client is not None:
            from ._network import adapt  # here, for the network takes long to be imported

            adapt(http_client)
        # By process, for a forked child can't share connections.
        self._clients: dict[int, httpx.Client] = {}
        self._closed = False
        self._server: LocalServer | None = None
        self._start: dict[str, Any] = {}  # how that was started

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
        """Start a private local sandbox, and return a client of it that stops it when closed.

        It needs the extra `sandbox-api[local]`, and Linux with user namespaces.

        Args:
            timeout: how long a call may take, in seconds, as for any Sandbox.
            isolation: "bubblewrap"; "podman" or "docker" for a container each; or by name only
                "none": commands then may do all that you may.
            image: the image of containers, which must be there; by default Docker Hub's
                python:3-slim. It needs bash and coreutils.
            run_time: how long the commands of a request may take together, in seconds. A call is
                to wait longer than that.
            options: `headers`, `retries` and the others of a Sandbox; see ClientOptions.

        Raises:
            LocalSandboxError: it cannot run here; the message says why, and what to do.

        Examples:

            >>> with Sandbox.local() as sandbox:
            ...     sandbox.execute({"commands": ["echo $((2+2))"]}).execution[0].stdout
            '4'
        """
        from ._local import start

        server = start(isolation, image, run_time)
        sandbox = cls(server.url, timeout, **options)
        sandbox._server = server
        sandbox._start = {"isolation": isolation, "image": image, "run_time": run_time}
        return sandbox

    @property
    def url(self) -> str:
        """Where the server is, as given."""
        return self._settings.url

    @url.setter
    def url(self, url: str) -> None:
        settings: Settings | None = self.__dict__.get("_settings")
        if settings is not None and url != settings.url:  # subclasses may set what they gave
            raise AttributeError("a client's URL can't be changed: make another one for it")

    def __repr__(self) -> str:
        if "_settings" not in self.__dict__:  # while it is made, as debuggers and the like see it
            return f"<{type(self).__name__}>"
        return f"<{type(self).__name__} {redacted(self.url)}>"

    def __getstate__(self) -> dict[str, Any]:
        if self._given is not None or self._server is not None:
            what = "http_client" if self._given is not None else "local sandbox"
            raise TypeError(f"a Sandbox with a {what} of its own can't be pickled")
        self._settings.check_pickling()
        return {**self.__dict__, "_clients": {}}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections, and stop the local sandbox if there is one."""
        self._closed = True
        for process, client in self._clients.items():
            close_in(process, client)
        if self._server is not None:
            self._server.stop()

    def specifications(self, **options: Unpack[CallOptions]) -> Specifications:
        """Return the server's host and the limits of its containers.

        A UserWarning is given, once, where the server is newer than this client's description.

        Returns:
            Counts, MHz and bytes, each with its unit in Specifications.

        Raises:
            InvalidReply: the reply contradicts the server's description.

        Examples:

            >>> sandbox.specifications().container.count
            20
        """
        return self._perform(_operations.specifications(), options)

    def server_version(self, **options: Unpack[CallOptions]) -> str:
        """Return the version of the server; `GET /specifications/` tells it.

        Returns:
            The version, as in `3.0.3`.

        Raises:
            InvalidReply: the reply contradicts the server's description.

        Examples:

            >>> sandbox.server_version()
            '3.0.3'
        """
        return self._perform(_operations.server_version(), options)

    def usage(self, **options: Unpack[CallOptions]) -> Usage:
        """Return the server's current load, for which the real server measures for 2 seconds.

        Returns:
            Memory in bytes, shares of the processor from 0 to 1, rates per second; see Usage.

        Raises:
            InvalidReply: the reply contradicts the server's description.

        Examples:

            >>> sandbox.usage().cpu.usage
            0.017
        """
        return self._perform(_operations.usage(), options)

    def libraries(self, **options: Unpack[CallOptions]) -> Libraries:
        """Return the libraries and executables that commands find in a container.

        The real server starts a container to look, which takes 1 to 2 seconds.

        Returns:
            The version of each library by its name, and the names of executables; see Libraries.

        Raises:
            InvalidReply: the reply contradicts the server's description.

        Examples:

            >>> sandbox.libraries().libraries.system["bash"]
            '5.2.15-2+b13'
        """
        return self._perform(_operations.libraries(), options)

    def execute(
        self,
        config: ExecuteConfig | ExecuteConfigDict | Mapping[str, Any],
        environ: EnvironmentSource | None = None,
        **options: Unpack[CallOptions],
    ) -> Execution:
        """Run commands in a container of their own, and return what they did.

        That a command fails, or times out, is told by the result and raises nothing.

        Args:
            config: what to run, and how: `commands`, and perhaps `environ`, their variables,
                `environment`, the id of a stored one to start from, `result_path`, a file to give
                back, and `save`, to store what they leave; see ExecuteConfig.
            environ: files to lay into the working directory first: a folder, a mapping of names to
                contents, or a gzipped tar archive as a path, bytes or a binary stream, which is
                read from where it stands, and closed.
            options: `timeout` in seconds, `headers` and `retries` of this call; see CallOptions.

        Raises:
            InvalidConfig: the configuration is wrong; nothing was sent.
            InvalidEnvironment: the files cannot be used; nothing was sent.
            Sandbox400: the server refuses the configuration or the files; the message says why.
            Sandbox404: `config["environment"]` is not stored on the server.
            Sandbox503: the server is overloaded, still; nothing was run.
            TypeError: `environ` is none of these.

        Examples:

            >>> files = {"square.py": "print(7 ** 2)"}
            >>> result = sandbox.execute({"commands": ["python3 square.py"]}, files)
            >>> result.ok, result.execution[0].stdout
            (True, '49')
        """
        result = self._perform(_operations.execute(config, environ), options)
        return bind(Execution, result, self)

    def execute_many(
        self,
        jobs: Iterable[Job | Config | tuple[Config, EnvironmentSource | None]],
        *,
        concurrency: int | None = None,
        ordered: bool = False,
        on_progress: Callable[[Progress], object] | None = None,
        stop_on: Callable[[JobResult[Any]], object] | None = None,
        executor: Executor | None = None,
    ) -> Iterator[JobResult[Execution]]:
        """Execute any number of jobs, several at once, and yield what became of each.

        A job that fails stops no other: its error is in its JobResult. Jobs are taken from the
        iterable only when they are about to be sent, and results are not kept, so there may be
        millions, or no end of them. Where the server is overloaded, fewer jobs run at once for a
        while, and those that it refused are sent again; a job becomes an error when it has refused
        all for as long as `timeout`.

        To stop, leave the loop: what runs is cancelled. After a KeyboardInterrupt, what had ended
        is yielded, then it is raised.

        Args:
            jobs: each a Job, a configuration as for `execute`, or a tuple of that and its files.
                What the iterable raises is raised once the jobs that ran are yielded.
            concurrency: how many at once, at most; by default as many as the server has containers.
                No more than 100 where there is no executor.
            ordered: whether to yield in the order of the jobs, in place of that in which they end.
            on_progress: is called with a Progress whenever a job has ended.
            stop_on: is called with each JobResult as soon as there is one; when it returns what is
                true, no more jobs are begun, and those that run are the last.
            executor: any of PEP 3148 to run the jobs in place of threads of this process, as that
                of a Dask cluster; it is not shut down. Each of its processes makes a client of its
                own, and keeps it; the jobs, and this sandbox, are pickled. Where this sandbox is a
                local one, each process starts a local one of its own.

        Raises:
            ValueError: `concurrency` is not positive.
            TypeError: `jobs` is one job, or this sandbox can't be used in other processes.
            SandboxError, SandboxFailure: the server doesn't tell how many containers it has.
            BrokenExecutor: the executor takes no more jobs; what ran is yielded first.

        Examples:

            >>> jobs = ({"commands": [f"echo $(({n} * {n}))"]} for n in range(3))
            >>> for done in sandbox.execute_many(jobs, ordered=True):
            ...     print(done.id, done.result.execution[0].stdout if done.result else done.error)
            0 0
            1 1
            2 4
        """
        from ._batch import Batch
        from ._crew import MOST_HERE, Futures, Threads, repeatable, submitter, workers

        if concurrency is None:
            if executor is None or self._server is None:
                concurrency = self.specifications().container.count
            else:
                concurrency = workers(executor)
        concurrency = whole("concurrency", concurrency, 1)
        here = self._apart()
        if executor is None:
            crew: Crew = Threads(here, here._cut)
            concurrency = min(concurrency, MOST_HERE)
        else:
            crew = Futures(submitter(executor, here, self._elsewhere))
        batch = Batch(
            jobs,
            concurrency,
            ordered=ordered,
            on_progress=on_progress,
            stop_on=stop_on,
            kind=Execution,
            sandbox=self,
            retries=self._settings.retries,
            patience=self.timeout,
        )
        ended: deque[Ended] = deque()
        try:
            while batch.going:
                for run in batch.starts():
                    try:  # here, for the next job may close this one's files
                        run.job = repeatable(run.job)
                    except Exception as error:
                        batch.unread(run, error)
                        break  # so that it is yielded before others begin
                    crew.start(run)
                yield from batch.results()
                ended.extend(crew.wait(batch.pause()))
                while ended:
                    batch.end(*ended.popleft())
        except KeyboardInterrupt:
            ended.extend(crew.wait(0))
            crew.stop()
            while ended:
                batch.end(*ended.popleft())
            yield from batch.rest()
            raise
        finally:
            crew.stop()
            here._cut()
        yield from batch.rest()
        batch.close()

    def grade(
        self,
        folder: str | os.PathLike[str],
        config: Config,
        *,
        base: EnvironmentSource | None = None,
        **batch: Unpack[BatchOptions],
    ) -> Iterator[JobResult[Execution]]:
        """Execute the same commands for each sub-folder of a folder, and yield what became of each.

        The name of a sub-folder is the `id` of its JobResult, and its path the `meta`. Those whose
        name begins with a dot are left out.

        Args:
            folder: where the submissions are, one sub-folder each.
            config: what to run for each, as for `execute`.
            base: files that all start from, as tests; they are stored on the server once, and a
                submission's own win where names are the same.
            batch: as for `execute_many`.

        Raises:
            OSError: the folder can't be read.
            InvalidEnvironment: `base` cannot be used, or a sub-folder is a symbolic link.
            ValueError: `base` is to be used by processes that each have a local sandbox.
            TypeError: `config` has an environment too.

        Examples:

            >>> graded = sandbox.grade("handed-in", {"commands": ["./test"]}, base="test")
            >>> sorted([(done.id, done.outcome) for done in graded])
            [('alice', 'passed'), ('bob', 'failed')]
        """
        from .batch import based_on, submissions

        if base is not None:
            if self._server is not None and batch.get("executor") is not None:
                raise ValueError(
                    "a base is stored on one server: give the URL of one that all processes reach"
                )
            config = based_on(config, self.store(base).uuid)
        yield from self.execute_many([*submissions(folder, config)], **batch)

    def store(self, environ: EnvironmentSource, **options: Unpack[CallOptions]) -> Environment:
        """Store files on the server, as an environment for others to start from.

        Args:
            environ: the files, as for `execute`.

        Raises:
            InvalidEnvironment, Sandbox400, Sandbox503: as `execute`.
            ExecutionFailed: the server could not store them.

        Examples:

            >>> stored = sandbox.store({"data/primes": "2 3 5 7"})
            >>> config = {"commands": ["cat data/primes"], "environment": str(stored.uuid)}
            >>> sandbox.execute(config).execution[0].stdout
            '2 3 5 7'
        """
        result = self.execute(_operations.STORE, environ, **options)
        saved = result.raise_for_status().saved
        if saved is None:
            raise ExecutionFailed(result)
        return saved

    def download(
        self, uuid: UUID | str, path: str | None = None, **options: Unpack[CallOptions]
    ) -> io.BytesIO:
        r"""Return a stored environment, as a gzipped tar archive, or one of its files.

        Args:
            uuid: id of the environment.
            path: of the file inside the environment, to the letter; None is the whole environment.

        Raises:
            Sandbox404: the environment is not stored, or the file is not in it.
            InvalidReply: the reply announces no length, so that it could be cut unnoticed.

        Examples:

            >>> sandbox.download(result.environment, "marks").read()
            b'17/20\n'
        """
        sink = io.BytesIO()
        self._perform(_operations.download(uuid, path, sink), options)
        sink.seek(0)
        return sink

    def download_to(
        self,
        destination: str | os.PathLike[str],
        uuid: UUID | str,
        path: str | None = None,
        *,
        extract: bool = False,
        progress: Callable[[int, int | None], object] | None = None,
        **options: Unpack[CallOptions],
    ) -> Path:
        """Download a stored environment, or one of its files, to a file or folder.

        The file appears whole or not at all, and memory does not grow with its size.

        Args:
            destination: the file; with `extract`, the folder, which must be empty or not exist.
            uuid: id of the environment.
            path: of the file inside the environment, to the letter; None is the whole environment.
            extract: whether to unpack the archive, safely, into the destination.
            progress: is called with the bytes received and, where known, the bytes to come in all.

        Raises:
            Sandbox404: the environment is not stored, or the file is not in it.
            InvalidReply: the reply announces no length, so that it could be cut unnoticed.
            InvalidEnvironment: what was received cannot be unpacked safely.
            OSError: the destination cannot be written.

        Examples:

            >>> sandbox.download_to("marks.txt", result.environment, "marks")
            PosixPath('marks.txt')
        """
        from ._target import Target  # here, for archives take long to be imported

        with Target(destination, extract=extract) as target:
            self._perform(_operations.download(uuid, path, target.file, progress), options)
            target.commit()
        return target.destination

    def iter_download(
        self, uuid: UUID | str, path: str | None = None, **options: Unpack[CallOptions]
    ) -> Iterator[bytes]:
        """Yield a stored environment, or one of its files, in chunks of up to 64 KiB or so.

        Args:
            uuid: id of the environment.
            path: of the file inside the environment, to the letter; None is the whole environment.

        Raises:
            Sandbox404: the environment is not stored, or the file is not in it.
            InvalidReply: the reply announces no length, so that it could be cut unnoticed.

        Examples:

            >>> chunks = sandbox.iter_download(result.environment, "marks")
            >>> sum(len(chunk) for chunk in chunks)
            6
        """
        with self._exchange(_operations.download(uuid, path, io.BytesIO()), options) as exchange:
            for attempt in exchange:
                if attempt.delay:
                    time.sleep(attempt.delay)
                with attempt, contextlib.closing(self._send(exchange)) as response:
                    if attempt.begin(response):
                        attempt.final = True
                        yield from response.iter_bytes()
                    else:
                        response.read()
        exchange.result()

    def check(
        self, uuid: UUID | str, path: str | None = None, **options: Unpack[CallOptions]
    ) -> int:
        """Return the size of a stored environment or of one of its files, in bytes; 0 if not found.

        Args:
            uuid: id of the environment.
            path: of the file inside the environment, to the letter; None is the whole environment.

        Examples:

            >>> sandbox.check(result.environment, "marks")
            6
        """
        return self._perform(_operations.check(uuid, path), options)

    def environment(self, uuid: UUID | str) -> Environment:
        """Return a stored environment as an object, without asking the server.

        Examples:

            >>> sandbox.environment("872b604c-9cce-42e2-8888-9a0311f3a724").exists()
            False
        """
        return Environment(self, uuid)

    def load(self, environ: Mapping[str, Any], **options: Unpack[CallOptions]) -> dict[str, Any]:
        """Freeze a resource, on a server with the loader add-on: `POST /loader/fr/`.

        Args:
            environ: the resource, sent as JSON in the field `data`.

        Returns:
            The server's answer, whose members vary.

        Raises:
            Sandbox404: the server has no loader.
            TypeError: `environ` holds what JSON can't.

        Examples:

            >>> answer = sandbox.load({"title": "Squares", "text": "What is 7 ** 2?"})
        """
        return self._perform(_operations.load(environ), options)

    def demo(self, environ: Mapping[str, Any], **options: Unpack[CallOptions]) -> dict[str, Any]:
        """Build a demonstration of an exercise, on a server with the loader add-on.

        It asks `POST /loader/demo/pl/`.

        Args:
            environ: the exercise, sent as JSON in the field `data`.

        Returns:
            The server's answer, whose members vary.

        Raises:
            Sandbox404: the server has no loader.
            TypeError: `environ` holds what JSON can't.

        Examples:

            >>> answer = sandbox.demo({"title": "Squares", "text": "What is 7 ** 2?"})
        """
        return self._perform(_operations.demo(environ), options)

    def playexo(
        self,
        config: Mapping[str, Any],
        environ: Mapping[str, Any],
        **options: Unpack[CallOptions],
    ) -> dict[str, Any]:
        """Build an exercise to play, on a server with the loader add-on: `POST /loader/play/pl/`.

        Args:
            config: how to build it, sent as JSON in the field `config`.
            environ: the exercise, sent as JSON in the field `data`.

        Returns:
            The server's answer, whose members vary.

        Raises:
            Sandbox404: the server has no loader.
            TypeError: an argument holds what JSON can't.

        Examples:

            >>> answer = sandbox.playexo({"seed": 7}, {"title": "Squares"})
        """
        return self._perform(_operations.playexo(config, environ), options)

    def exec(
        self, datas: Mapping[str, Any] | None = None, **options: Unpack[CallOptions]
    ) -> dict[str, Any]:
        """Run a command of an exercise, on a server with the loader add-on: `POST /exec/`.

        Args:
            datas: what to run, sent as JSON in the field `data`, and each member again as a field
                of its own: `command`, `path_command`, `frozen_id` or `env_id`, `path_env`,
                `result`, `answer`.

        Returns:
            The server's answer, whose members vary.

        Raises:
            Sandbox404: the server has no loader.
            TypeError: `datas` holds what JSON can't.

        Examples:

            >>> answer = sandbox.exec({"command": "grade", "frozen_id": 1, "answer": "49"})
        """
        return self._perform(_operations.exec(datas or {}), options)

    @overload
    def request(
        self,
        method: str,
        path: str,
        *,
        fields: Mapping[str, Any] | None = ...,
        files: Mapping[str, EnvironmentSource] | None = ...,
        json: Any = ...,
        params: Mapping[str, Any] | None = ...,
        model: None = ...,
        **options: Unpack[CallOptions],
    ) -> httpx.Response: ...

    @overload
    def request(
        self,
        method: str,
        path: str,
        *,
        fields: Mapping[str, Any] | None = ...,
        files: Mapping[str, EnvironmentSource] | None = ...,
        json: Any = ...,
        params: Mapping[str, Any] | None = ...,
        model: type[M],
        **options: Unpack[CallOptions],
    ) -> M: ...

    def request(
        self,
        method: str,
        path: str,
        *,
        fields: Mapping[str, Any] | None = None,
        files: Mapping[str, EnvironmentSource] | None = None,
        json: Any = None,
        params: Mapping[str, Any] | None = None,
        model: type[M] | None = None,
        **options: Unpack[CallOptions],
    ) -> httpx.Response | M:
        """Call an endpoint of your own server, with all that the others have.

        Args:
            method: GET, POST, …
            path: of the endpoint, below the sandbox's URL. No message or log line shows its query.
            fields: fields of a form: text, or anything else as JSON.
            files: files of a form, each like the `environ` of `execute`.
            json: a body, as JSON.
            params: a query.
            model: the class of the answer, one of the generated models or a subclass of theirs;
                without one, the response itself is returned, whatever it holds.

        Raises:
            InvalidReply: the answer is not what `model` says.
            TypeError: there is `json` beside `fields` or `files`, or one of these can't be sent.
            ValueError: the path leads out of the sandbox's URL by `..`.

        Examples:

            >>> class Platform(Sandbox):
            ...     def runner(self, config, loader, environment):
            ...         return self.request(
            ...             "POST", "runner/", model=ExecutionResult,
            ...             fields={"config": config, "loader": loader},
            ...             files={"environment": environment},
            ...         )
        """
        arguments = (method, path, fields, files, json, params)
        if model is None:
            return self._perform(_operations.request(*arguments, lambda answer: answer), options)
        return self._perform(
            _operations.request(*arguments, _operations.read_model(model)), options
        )

    def _perform(self, call: Call[T], options: CallOptions) -> T:
        with self._exchange(call, options) as exchange:
            for attempt in exchange:
                if attempt.delay:
                    time.sleep(attempt.delay)
                with attempt, contextlib.closing(self._send(exchange)) as response:
                    if take := attempt.begin(response):
                        for chunk in response.iter_bytes():
                            take(chunk)
                    else:
                        response.read()
        return exchange.result()

    def _exchange(self, call: Call[T], options: CallOptions) -> Exchange[T]:
        return Exchange(call, self._settings, self.timeout, options, self._server, self._has_closed)

    def _has_closed(self) -> bool:
        """Tell whether what sends was closed, as by another thread or task."""
        return self._closed and self._given is None

    def _send(self, exchange: Exchange[Any]) -> httpx.Response:
        until = Until(exchange.deadline) if exchange.total else None
        timeout = httpx.Timeout(until, pool=until and float(until))
        client = self._client()
        request = client.build_request(**exchange.request, timeout=timeout)
        return client.send(request, stream=True, follow_redirects=False)

    def _client(self) -> httpx.Client:
        """Return what sends requests in this process."""
        if self._given is not None:
            return self._given
        if self._closed:
            raise RuntimeError(f"{self!r} is closed")
        process = os.getpid()
        if client := self._clients.get(process):
            return client
        for maker, inherited in [*self._clients.items()]:
            if maker != process:
                from ._network import abandon

                abandon(inherited)
        made = self._settings.client()
        # Two threads may come here at once; only one's client is kept.
        client = self._clients.setdefault(process, made)
        if client is made:
            weakref.finalize(self, close_in, process, made)  # old code never closed anything
        return client

    def _apart(self) -> Self:
        """Return the same sandbox with connections of its own, which can be cut."""
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__, _clients={})
        return twin

    def _cut(self) -> None:
        """End the calls that other threads make, but not over a client that was given."""
        from ._network import cut

        self._closed = True
        # In a forked child, what its parent sends goes on.
        if client := self._clients.get(os.getpid()):
            cut(client)
            client.close()

    def _elsewhere(self) -> object:
        """Return what other processes make their sandbox of."""
        if self._server is None:
            return self
        options = self._settings.options
        return functools.partial(type(self).local, self.timeout, **self._start, **options)


def close_in(process: int, client: httpx.Client) -> None:
    """Close a client, but not in a forked child, where it could wait for a lock for ever."""
    if os.getpid() == process:
        client.close()


class Environment(Stored):
    r"""An environment that is stored on a sandbox server: see Sandbox.environment.

    Paths are of files inside the environment, to the letter; without one, the whole environment is
    meant, as a gzipped tar archive. Methods take the options of all calls, and raise Sandbox404
    where the environment is not stored, or the file not in it.

    Examples:

        >>> result = sandbox.execute({"commands": ["echo 17 > marks"], "save": True})
        >>> result.saved.read_text("marks")
        '17\n'
        >>> [file.name for file in result.saved.files()]
        ['marks']
    """

    def __init__(self, sandbox: Sandbox, uuid: UUID | str, expires: datetime | None = None) -> None:
        super().__init__(uuid, expires)
        self._sandbox = sandbox

    def size(self, path: str | None = None, **options: Unpack[CallOptions]) -> int:
        """Return the size in bytes, 0 if not found."""
        return self._sandbox.check(self.uuid, path, **options)

    def exists(self, path: str | None = None, **options: Unpack[CallOptions]) -> bool:
        """Tell whether it is there, be it empty."""
        call = _operations.exists(self.uuid, path)
        return self._sandbox._perform(call, options)  # pyright: ignore[reportPrivateUsage]

    def files(self, **options: Unpack[CallOptions]) -> list[EnvironmentFile]:
        """Return the names, sizes and types of all files, read from the archive.

        Raises:
            InvalidEnvironment: what the server sent is no archive.
        """
        import tempfile

        from .environment import list_environment

        with tempfile.TemporaryFile() as file:
            for chunk in self._sandbox.iter_download(self.uuid, **options):
                file.write(chunk)
            file.seek(0)
            return [*list_environment(file)]

    def read_bytes(self, path: str, **options: Unpack[CallOptions]) -> bytes:
        """Return what a file holds."""
        return self._sandbox.download(self.uuid, path, **options).getvalue()

    def read_text(self, path: str, encoding: str = "utf-8", **options: Unpack[CallOptions]) -> str:
        """Return what a file holds, as text.

        Raises:
            UnicodeDecodeError: it is not in this encoding.
        """
        stream = self._sandbox.download(self.uuid, path, **options)
        return stream.getvalue().decode(encoding)

    def download_to(
        self,
        destination: str | os.PathLike[str],
        path: str | None = None,
        *,
        extract: bool = False,
        progress: Callable[[int, int | None], object] | None = None,
        **options: Unpack[CallOptions],
    ) -> Path:
        """Download to a file, or unpack into a folder; see Sandbox.download_to."""
        return self._sandbox.download_to(
            destination, self.uuid, path, extract=extract, progress=progress, **options
        )


class Execution(ExecutionResult):
    """What the commands of a request to a Sandbox did."""

    @property
    def saved(self) -> Environment | None:
        """The environment that was stored, for a request with `save`."""
        if self.environment is None:
            return None
        return Environment(self._origin(), self.environment, self.expire)
