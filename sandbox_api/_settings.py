"""How to reach a sandbox: what users say, made ready for httpx."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import re
import ssl
import sys
from typing import TYPE_CHECKING, Any, TypeVar

import httpx
from attrs import frozen

from ._hooks import check_hooks, marked_hooks
from ._options import ClientOptions, check_kinds, is_path, parts, sendable_headers, whole
from ._urls import EXAMPLES, parse_url, parsed, url_text
from ._version import __version__
from .exceptions import InvalidURL

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

C = TypeVar("C", httpx.Client, httpx.AsyncClient)

USER_AGENT = f"sandbox-api/{__version__} python/{'.'.join(map(str, sys.version_info[:3]))}"

RETRIES = 2


@frozen(repr=False)
class Settings:
    """All that it takes to make a client of httpx, as often as needed."""

    url: str
    """The URL as given, or as found in the environment."""

    base_url: str
    """The URL that requests go to, without user and password."""

    socket: str | None
    """Path of the Unix socket that leads there, if any."""

    retries: int
    """How often to try again."""

    options: ClientOptions
    """The options as given."""

    @classmethod
    def of(
        cls, url: str | httpx.URL | None, options: ClientOptions, *, given: object, awaited: bool
    ) -> Settings:
        """Check what a user gave, among it perhaps a client of httpx, for one flavour.

        Raises:
            InvalidURL: the URL cannot be used, or there is none.
            TypeError: the URL is no text, there is no such option, it does not go with that
                client, hooks are of the other flavour, or an option is of the wrong kind.
            ValueError: a header can't be sent, or `retries` is negative.
        """
        if unknown := options.keys() - ClientOptions.__annotations__.keys():
            hint = "; an ASandbox has `total`" if awaited and "timeout" in unknown else ""
            raise TypeError(f"there is no option {', '.join(sorted(unknown))}{hint}")
        if given is not None and (ignored := options.keys() - {"retries"}):
            raise TypeError(f"set {', '.join(sorted(ignored))} on the http_client that you give")
        kind = httpx.AsyncClient if awaited else httpx.Client
        if given is not None and not isinstance(given, kind):
            raise TypeError(
                f"http_client must be an httpx.{kind.__name__}, not {type(given).__name__}"
            )
        if url is None:
            url = os.environ.get("SANDBOX_URL") or None
        if url is None:
            raise InvalidURL(
                f"which sandbox? Give its URL, or set SANDBOX_URL; {EXAMPLES}. "
                "Sandbox.local() needs none."
            )
        url = url_text(url)
        check_hooks(options.get("hooks", {}), awaited=awaited)
        check_kinds(options)
        headers = sendable_headers(options.get("headers", {}), "headers")
        sendable_headers(options.get("cookies", {}), "cookies")
        base_url, socket = parse_url(url)
        if base_url.userinfo and given is not None:
            raise TypeError("set the user and password on the http_client that you give")
        if socket is not None and given is not None:
            raise TypeError(
                "set the socket on the http_client that you give, as `uds` of its transport, and "
                "give a URL like http://localhost"
            )
        retries = whole("retries", options.get("retries", RETRIES))
        if base_url.userinfo:
            # As headers they are sent just so, but are in no URL that is logged or shown.
            options = {"auth": (base_url.username, base_url.password), **options}
            base_url = base_url.copy_with(userinfo=b"")
        elif token := token_for(socket, options, given):
            options = {**options, "headers": merged({"Authorization": f"Bearer {token}"}, headers)}
        return cls(url, str(base_url), socket, retries, options)

    def client(self) -> httpx.Client:
        """Return a new synchronous client.

        Raises:
            InvalidURL: the URL of a proxy cannot be used.
            FileNotFoundError: a file of certificates is not there.
        """
        from ._blocking import Client  # here, for the network takes long to be imported

        with usable_proxies():
            return prepared(Client(self.socket, **self._arguments()))

    def async_client(self) -> httpx.AsyncClient:
        """Return a new asynchronous client.

        Raises:
            InvalidURL: the URL of a proxy cannot be used.
            FileNotFoundError: a file of certificates is not there.
        """
        from ._suspending import AsyncClient

        with usable_proxies():
            return prepared(AsyncClient(self.socket, **self._arguments()))

    def address(self, path: str) -> httpx.URL | str:
        """Return the whole URL of a path below the sandbox's."""
        return parsed(f"{self.base_url}{path.lstrip('/')}")

    def place(self, path: str) -> str:
        """Return what is shown of that URL: without a query, for it may hold secrets."""
        path = re.split("[?#]", path)[0].lstrip("/")
        return f"{self.url}:/{path}" if self.socket else f"{self.base_url}{path}"

    def check_pickling(self) -> None:
        """Refuse to be pickled where that would fail without saying why.

        Raises:
            TypeError: an option can't be.
        """
        proxy = self.options.get("proxy")
        for name, value in [
            ("verify", self.options.get("verify")),
            ("proxy", proxy.ssl_context if isinstance(proxy, httpx.Proxy) else None),
        ]:
            if isinstance(value, ssl.SSLContext):
                raise TypeError(
                    f"{name} is or has an ssl.SSLContext, so this client can't be pickled: give "
                    "the path of the certificate authorities, or make the client where it is used"
                )

    def _arguments(self) -> dict[str, Any]:
        options = self.options
        proxy, auth = options.get("proxy"), options.get("auth")
        # A proxy can't reach a socket of this machine.
        trusted = options.get("trust_env", True) and self.socket is None and proxy is None
        # All calls go to one server, but an authentication may ask another.
        if trusted and not isinstance(auth, httpx.Auth):
            with contextlib.suppress(ImportError):  # of an httpx that is changed, and looks itself
                proxy, trusted = proxy_for(self.base_url), False
        return {
            "auth": auth,
            "cookies": options.get("cookies"),
            "proxy": proxy,
            "verify": self._context(),
            "limits": httpx.Limits(max_connections=100, max_keepalive_connections=0),
            "headers": merged({"User-Agent": USER_AGENT}, options.get("headers", {})),
            "event_hooks": marked_hooks(options.get("hooks", {})),
            "follow_redirects": False,
            "trust_env": trusted,
        }

    def _context(self) -> ssl.SSLContext:
        verify: Any = self.options.get("verify", True)
        cert: Any = self.options.get("cert")
        chain = [cert] if is_path(cert) else parts(cert)
        for path in (verify, *chain[:2]):
            # OpenSSL does not tell which one is missing.
            if is_path(path) and not os.path.exists(path):  # noqa: PTH110
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        if isinstance(verify, ssl.SSLContext):
            context = verify
        elif self.base_url.startswith("http:") and not self.options.get("proxy"):
            # Loading the authorities takes 20 ms, which http:// never needs. A context that trusts
            # nobody is free, and fails closed.
            return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        elif is_path(verify):
            place: Any = {"capath" if os.path.isdir(verify) else "cafile": verify}  # noqa: PTH112
            context = ssl.create_default_context(**place)
        elif verify and not cert:
            return _usual_context(self.options.get("trust_env", True))
        else:
            context = httpx.create_ssl_context(
                verify=verify, trust_env=self.options.get("trust_env", True)
            )
        if chain:
            context.load_cert_chain(*chain)
        return context


def token_for(socket: str | None, options: ClientOptions, given: object) -> str | None:
    """Return the token in the environment, where the user did not say how to authenticate.

    Raises:
        ValueError: it can't be sent.
    """
    said = "auth" in options or "authorization" in map(str.lower, options.get("headers", {}))
    # Who reaches a socket needs no token.
    if socket is not None or said or given is not None:
        return None
    token = os.environ.get("SANDBOX_TOKEN") or None
    sendable_headers({"SANDBOX_TOKEN": token or ""}, "environment variables")
    return token


@functools.cache
def _usual_context(trust_env: bool) -> ssl.SSLContext:
    """Return the one context of this process that trusts the usual authorities."""
    file = os.environ.get("SSL_CERT_FILE") if trust_env else None
    if file and not os.path.exists(file):  # noqa: PTH110
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), file)
    return httpx.create_ssl_context(trust_env=trust_env)


def merged(headers: Mapping[str, str], more: Mapping[str, str]) -> httpx.Headers:
    """Return headers with others put in, in place of those of the same name in any case."""
    result = httpx.Headers(headers)
    result.update(more)
    return result


def prepared(client: C) -> C:
    """Return a client whose calls through proxies, if any, are as reliable as the others."""
    if client._mounts:  # pyright: ignore[reportPrivateUsage]
        from ._network import adapt

        adapt(client)
        # Their connections are closed at once: the proxy may be closing one that is idle, and in
        # httpcore's pool one thread may close what it has just given to another.
        client.headers["Connection"] = "close"
    return client


def proxy_for(url: str) -> str | None:
    """Return the proxy that the environment names for a URL, as httpx finds it.

    The others do not matter, be they wrong or in want of a package.
    """
    from httpx._utils import URLPattern, get_environment_proxies

    found: dict[URLPattern, str | None] = {}
    for pattern, proxy in get_environment_proxies().items():
        with contextlib.suppress(httpx.InvalidURL):  # of NO_PROXY
            found[URLPattern(pattern)] = proxy
    asked = httpx.URL(url)
    return next((found[each] for each in sorted(found) if each.matches(asked)), None)


@contextlib.contextmanager
def usable_proxies() -> Generator[None]:
    """Say what is wrong with a proxy's URL without showing it.

    Raises:
        InvalidURL: httpx can't use it.
    """
    try:
        yield
    except ImportError:
        raise InvalidURL(
            "a socks proxy needs one more package: pip install 'httpx[socks]'"
        ) from None
    except (httpx.InvalidURL, ValueError):
        raise InvalidURL(
            "the URL of a proxy, given or in HTTP_PROXY or the like, cannot be used: "
            "write it like http://proxy.example.org:3128"
        ) from None
