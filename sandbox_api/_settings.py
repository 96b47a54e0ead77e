"""How to reach a sandbox: what users say, checked and made ready for httpx."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import re
import ssl
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

import httpx
from attrs import frozen

from ._hooks import check_hooks, marked_hooks
from ._version import __version__
from .exceptions import InvalidURL

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

# RFC 9110, 5.6.2, for headers, and RFC 6265, 4.1.1, for cookies.
NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch

C = TypeVar("C", httpx.Client, httpx.AsyncClient)

USER_AGENT = f"sandbox-api/{__version__} python/{'.'.join(map(str, sys.version_info[:3]))}"

RETRIES = 2

# Longer than any call takes, and no longer than systems can wait, in seconds.
FOR_EVER = 1e9

EXAMPLES = "write it like http://localhost:7000, https://host/sandbox or unix:///run/sandbox.sock"


class ClientOptions(TypedDict, total=False):
    """What both flavours take beside the URL and time-outs."""

    headers: Mapping[str, str]
    """Headers to send with every request."""

    auth: tuple[str, str] | httpx.Auth | Callable[[httpx.Request], httpx.Request]
    """User and password, or any other authentication of httpx."""

    cookies: Mapping[str, str]
    """Cookies to send with every request."""

    verify: bool | str | os.PathLike[str] | ssl.SSLContext
    """How to check the server's certificate: against the usual authorities (True, the default),
    those in a file or folder, as an SSLContext says, or not at all (False)."""

    cert: str | os.PathLike[str] | tuple[str, str] | tuple[str, str, str]
    """A client certificate: its file; that and the key's; or these and the key's password."""

    proxy: str | httpx.Proxy
    """URL of a proxy to go through."""

    trust_env: bool
    """Whether to take proxies and certificate authorities from the environment. Yes by default."""

    retries: int
    """How often to try again where the server can't have started the work. 2 by default, 0 is
    never."""

    hooks: Mapping[str, Sequence[Callable[..., Any]]]
    """Functions to call with every "request" and "response", async ones in an ASandbox; httpx calls
    these event hooks."""


class CallOptions(TypedDict, total=False):
    """What every method takes, for that call alone."""

    timeout: float | None
    """How long the whole call may take, retries included, in seconds; None or 0 is for ever."""

    headers: Mapping[str, str]
    """Headers to send with the request, e.g. `X-Request-ID`."""

    retries: int
    """How often to try again, in place of the client's own number."""


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
        retries = whole(options.get("retries", RETRIES))
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
        trusted = options.get("trust_env", True) and self.socket is None
        # All calls go to one server, but an authentication may ask another.
        alone = not isinstance(auth, httpx.Auth)
        if proxy is None and trusted and alone:
            proxy = proxy_for(self.base_url)
        return {
            "auth": auth,
            "cookies": options.get("cookies"),
            "proxy": proxy,
            "verify": self._context(),
            "limits": httpx.Limits(max_connections=100, max_keepalive_connections=0),
            "headers": merged({"User-Agent": USER_AGENT}, options.get("headers", {})),
            "event_hooks": marked_hooks(options.get("hooks", {})),
            "follow_redirects": False,
            "trust_env": trusted and not alone,
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


def is_path(value: Any) -> bool:
    """Tell whether a value is the path of a file or folder."""
    return isinstance(value, (str, os.PathLike))


def redacted(url: str) -> str:
    """Return a URL without what in it may be a secret, however wrong it is."""
    if re.match("unix:///|unix:/[^@]*$", url):  # has no place for secrets
        return url
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        parsed = None
    if parsed is not None and parsed.scheme in {"http", "https"} and parsed.host:
        if "@" in parsed.path:  # a password may hold a slash
            parsed = parsed.copy_with(path="/")
        return str(parsed.copy_with(userinfo=b"", query=None, fragment=None))
    # Of what can't be parsed, no more than a scheme, a host's first letters and a port are safe.
    shown = re.sub(r"^((?:\w+:)?//)?.*@", r"\1", url, flags=re.DOTALL)
    safe = r"^((?:(?:\w+:)?//)?[^:/?#]*(?::\d{1,5}(?=/|$))?).*"
    return re.sub(safe, r"\1", shown, flags=re.DOTALL)


def merged(headers: Mapping[str, str], more: Mapping[str, str]) -> httpx.Headers:
    """Return headers with others put in, in place of those of the same name in any case."""
    result = httpx.Headers(headers)
    result.update(more)
    return result


def check_kinds(options: ClientOptions) -> None:
    """Refuse what httpx can't use, whose own messages come late, and may show a secret.

    Raises:
        TypeError: an option is of the wrong kind.
    """
    given: dict[str, Any] = {"verify": True, "trust_env": True, **options}
    verify, cert, proxy, auth = map(given.get, ["verify", "cert", "proxy", "auth"])
    if not (is_path(verify) or isinstance(verify, (bool, ssl.SSLContext))):
        raise TypeError(f"verify must be True, False, a path or an ssl.SSLContext, not {verify!r}")
    if not isinstance(given["trust_env"], bool):
        raise TypeError(f"trust_env must be True or False, not {given['trust_env']!r}")
    files = parts(cert)
    if not (
        cert is None or is_path(cert) or (len(files) in {2, 3} and all(map(is_path, files[:2])))
    ):
        raise TypeError(f"cert must be a path or a tuple of two or three, not {kind_of(cert)}")
    if not (proxy is None or isinstance(proxy, (str, httpx.URL, httpx.Proxy))):
        raise TypeError(f"proxy must be a URL or an httpx.Proxy, not {kind_of(proxy)}")
    pair = [isinstance(each, (str, bytes)) for each in parts(auth)] == [True, True]
    if not (auth is None or isinstance(auth, httpx.Auth) or callable(auth) or pair):
        raise TypeError(
            "auth must be a tuple of user and password, an httpx.Auth or a function, not "
            f"{kind_of(auth)}"
        )


def parts(value: Any) -> list[Any]:
    """Return what is in a tuple; nothing of another value."""
    return [*value] if isinstance(value, tuple) else []


def kind_of(value: object) -> str:
    """Return how to name a value that is of the wrong kind, and may be a secret."""
    return "another tuple" if isinstance(value, tuple) else type(value).__name__


def sendable_headers(headers: Any, what: str) -> Mapping[str, str]:
    """Return headers, or cookies, that can be sent.

    Raises:
        TypeError: they are no mapping of text to text.
        ValueError: one can't; the message has its name, for its value may be a secret.
    """
    if not isinstance(headers, Mapping):
        raise TypeError(
            f"{what} must be a mapping of names to values, not {type(headers).__name__}"
        )
    for name, value in headers.items():  # pyright: ignore[reportUnknownVariableType]
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"{what} must be text, and the name or value of {name!r} is not")
        if value != value.strip() or re.search(r"[\0-\x08\n-\x1f\x7f]", value):
            raise ValueError(
                f"the value of {name!r} has white space at an end, or a control character: strip it"
            )
        if not value.isascii():
            raise ValueError(f"the value of {name!r} has characters that are not ASCII")
        if what == "cookies" and ";" in value:  # which would begin another
            raise ValueError(f"the value of {name!r} has a semicolon")
        if not NAME(name):
            raise ValueError(f"the name {name!r} has characters that no name may have")
    return headers  # pyright: ignore[reportUnknownVariableType]


@functools.lru_cache(64)
def parsed(url: str) -> httpx.URL | str:
    """Return a URL ready to be used, or as it is where it can't be, as httpx will say."""
    try:
        return httpx.URL(url)
    except httpx.InvalidURL:
        return url


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


def url_text(url: Any) -> str:
    """Return a URL as text.

    Raises:
        TypeError: it is neither that nor an httpx.URL.
    """
    if isinstance(url, (str, httpx.URL)):
        return str(url)
    raise TypeError(f"the sandbox's URL must be a string, not {type(url).__name__}")


def parse_url(url: str) -> tuple[httpx.URL, str | None]:
    """Return a sandbox's base URL, and the path of the Unix socket that leads to it, if any.

    Takes `http://host[:port][/prefix]`, https likewise, and `unix:///path/to.sock`.

    Raises:
        InvalidURL: it is none of these.
    """
    shown = redacted(url)
    scheme = url.partition(":")[0].lower()
    if scheme == "unix":
        if not url[5:].startswith("///"):
            raise InvalidURL(f"the sandbox's URL {shown!r} has no absolute path: {EXAMPLES}")
        return httpx.URL("http://localhost/"), url[7:]
    if "://" not in url:
        raise InvalidURL(f"the sandbox's URL {shown!r} has no scheme: {EXAMPLES}")
    if scheme not in {"http", "https"}:
        raise InvalidURL(f"the sandbox's URL {shown!r} is neither http nor https: {EXAMPLES}")
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        # Not its words, nor itself as the cause: both may quote the password.
        raise InvalidURL(f"the sandbox's URL {shown!r} is not valid: {EXAMPLES}") from None
    if not parsed.host:
        raise InvalidURL(f"the sandbox's URL {shown!r} has no host: {EXAMPLES}")
    if parsed.query or parsed.fragment:
        raise InvalidURL(f"the sandbox's URL {shown!r} has a query or fragment: {EXAMPLES}")
    if (parsed.port or 0) > 65535:  # a look-up would make another of it
        raise InvalidURL(f"the sandbox's URL {shown!r} has a port above 65535: {EXAMPLES}")
    # Raw, for what is encoded stays so.
    return parsed.copy_with(raw_path=parsed.raw_path.rstrip(b"/") + b"/"), None


def whole(retries: Any) -> int:
    """Return how often to try again.

    Raises:
        TypeError: it is no whole number.
        ValueError: it is negative.
    """
    if not isinstance(retries, int) or isinstance(retries, bool):
        raise TypeError(f"retries must be a whole number, not {retries!r}")
    if retries < 0:
        raise ValueError(f"retries must be 0 or more, not {retries}")
    return retries


def seconds(name: str, given: Any) -> float | None:
    """Return a time-out in seconds; None and 0 are no bound, as in aiohttp.

    Raises:
        TypeError: it is no number.
    """
    if given is None:
        return None
    import numbers  # here, for it takes long to be imported

    if isinstance(given, bool) or not isinstance(given, numbers.Real) or given != given:
        raise TypeError(f"{name} must be a number of seconds, or None for no bound, not {given!r}")
    return float(given) if given and given < FOR_EVER else None
