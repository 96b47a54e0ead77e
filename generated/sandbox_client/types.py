"""How JSON becomes models: a reader for each type, and the base class of models."""

from __future__ import annotations

import itertools
import json
import math
import re
import reprlib
from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from operator import itemgetter
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self, cast
from urllib.parse import quote
from uuid import UUID

from .errors import DescriptionError, Fault

if TYPE_CHECKING:
    import httpx

Reader = Callable[[Any], Any]


class _Kind(NamedTuple):
    name: str
    types: type | tuple[type, ...]


# JSON's types, by the Python type that stands for each.
_KINDS: dict[type, _Kind] = {
    str: _Kind("a string", str),
    int: _Kind("an integer", int),
    float: _Kind("a number", (float, int)),
    bool: _Kind("a boolean", bool),
    list: _Kind("an array", (list, tuple)),
    dict: _Kind("an object", Mapping),
    type(None): _Kind("null", type(None)),
}


def _is(value: Any, kind: type) -> bool:
    # A boolean is an integer in Python, but not in JSON.
    return isinstance(value, _KINDS[kind].types) and isinstance(value, bool) == (kind is bool)


def _unexpected(value: Any, *kinds: type) -> DescriptionError:
    names = " or ".join(_KINDS[kind].name for kind in kinds)
    return DescriptionError(Fault(f"must be {names}, not {reprlib.repr(value)}"))


def _reader(kind: type) -> Reader:
    types = _KINDS[kind].types
    boolean = kind is bool

    def read(value: Any) -> Any:
        # As _is does, inline, and the most likely first.
        if value.__class__ is kind or (
            isinstance(value, types) and (value.__class__ is bool) is boolean
        ):
            return value
        raise _unexpected(value, kind)

    return read


nothing = _reader(type(None))
boolean = _reader(bool)
integer = _reader(int)
string = _reader(str)
_list = _reader(list)
_object = _reader(dict)

# The readers that leave a value of exactly one type as it is.
PLAIN: dict[Reader, type] = {boolean: bool, integer: int, string: str}

# How many objects are read together, at least, where they are alike.
MANY = 32


def number(value: Any) -> float:
    """Read a number; Python's NaN and infinities are none."""
    try:
        if _is(value, float) and math.isfinite(value):
            return value  # type: ignore[no-any-return]
    except OverflowError:  # an integer that no float can hold
        pass
    raise _unexpected(value, float)


def anything(value: Any) -> Any:
    """Read a value of any of JSON's types."""
    if isinstance(value, Mapping):
        members(anything)(value)
    elif isinstance(value, (list, tuple)):
        array(anything)(value)
    elif value is not None and not isinstance(value, (str, int, float)):
        raise DescriptionError(Fault(f"must be a JSON value, not {reprlib.repr(value)}"))
    return value  # pyright: ignore[reportUnknownVariableType]


def matching(pattern: str, name: str | None = None) -> Reader:
    """Return a reader of strings that match a regular expression; `name` says what these are."""

    def read(value: Any) -> str:
        text: str = string(value)
        if re.search(pattern, text):
            return text
        expected = f"be {name}" if name else f"match {pattern}"
        raise DescriptionError(Fault(f"must {expected}, not {reprlib.repr(value)}"))

    return read


def uuid(value: Any) -> UUID:
    """Read a UUID."""
    try:
        return UUID(string(value))
    except DescriptionError:
        raise
    except ValueError:
        raise DescriptionError(Fault(f"must be a UUID, not {reprlib.repr(value)}")) from None


def date_time(value: Any) -> datetime:
    """Read a date and time in any of the forms of ISO 8601; one without zone is in UTC."""
    from dateutil.parser import isoparse  # here, for few answers carry a date

    try:
        moment = isoparse(string(value))
    except DescriptionError:
        raise
    except (ValueError, OverflowError):  # after the year 9999
        raise DescriptionError(
            Fault(f"must be a date and time, not {reprlib.repr(value)}")
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


def array(read: Reader, least: int = 0, most: int | None = None) -> Reader:
    """Return a reader of arrays whose items are read by `read`."""

    plain = PLAIN.get(read)
    model: type[Model] | None = getattr(read, "__self__", None)

    def read_array(value: Any) -> list[Any]:
        items: list[Any] = _list(value)
        if len(items) < least or (most is not None and len(items) > most):
            few, count = len(items) < least, least if len(items) < least else most
            bound = f"at {'least' if few else 'most'} {count} item{'s' * (count != 1)}"
            raise DescriptionError(Fault(f"must have {bound}, not {len(items)}"))
        if plain and {*map(type, items)} == {plain}:  # in one go
            return [*items]
        if model and len(items) >= MANY:
            models = model._alike(items)  # pyright: ignore[reportPrivateUsage]
            if models is not None:
                return models
        result: list[Any] = []
        faults: list[Fault] = []
        for index, item in enumerate(items):
            try:
                result.append(read(item))
            except DescriptionError as error:
                faults += error.within(index)
        if faults:
            raise DescriptionError(*faults)
        return result

    return read_array


def members(read: Reader) -> Reader:
    """Return a reader of objects whose members are all read by `read`."""

    def read_members(value: Any) -> dict[str, Any]:
        _object(value)
        if {*map(type, value.values())} == {PLAIN.get(read)}:  # in one go
            return {**value}
        result: dict[str, Any] = {}
        faults: list[Fault] = []
        for key, member in value.items():
            try:
                result[key] = read(member)
            except DescriptionError as error:
                faults += error.within(key)
        if faults:
            raise DescriptionError(*faults)
        return result

    return read_members


def either(readers: Mapping[type, Reader]) -> Reader:
    """Return a reader that chooses another by the value's JSON type."""

    def read(value: Any) -> Any:
        for kind, reader in readers.items():
            if _is(value, kind):
                return reader(value)
        raise _unexpected(value, *readers)

    return read


class Member(NamedTuple):
    """A member that an object is described to have."""

    name: str
    """Name of the attribute."""
    key: str
    """Key in the JSON object."""
    required: bool
    """Whether it is always there."""
    read: Reader
    """What makes a typed value of it."""


class Model(dict[str, Any]):
    """The JSON object that an answer was made of, with its described members as attributes.

    As a dictionary it holds the JSON values, undescribed ones included; attributes hold typed
    values, None where a member is absent.
    """

    _members: ClassVar[tuple[Member, ...]] = ()
    _closed: ClassVar[bool] = False

    def __attrs_post_init__(self) -> None:
        # Made from attributes rather than read: the dictionary follows from them.
        for name, key, required, _ in self._members:
            value = getattr(self, name)
            if required or value is not None:
                self[key] = _plain(value)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read a JSON object.

        Raises:
            DescriptionError: it contradicts the description; the error holds every fault.
        """
        data = _object(data)
        # Not through __init__, which would make the dictionary anew from the attributes.
        model = cls.__new__(cls)
        attributes = model.__dict__
        faults: list[Fault] = []
        for name, key, required, read in cls._members:
            if key in data:
                try:
                    attributes[name] = read(data[key])
                except DescriptionError as error:
                    faults += error.within(key)
            elif required:
                faults.append(Fault("is missing", (key,)))
            else:
                attributes[name] = None
        if cls._closed:
            known = {member.key for member in cls._members}
            faults += [Fault("is not a known key", (key,)) for key in data if key not in known]
        if faults:
            raise DescriptionError(*faults)
        model.update(data)
        return model

    @classmethod
    def _alike(cls, items: list[Any]) -> list[Self] | None:
        """Read objects of the same members, all of plain types, member by member.

        In a few passes that are not in Python. Returns None for all others, valid or not.
        """
        required = [member for member in cls._members if member.required]
        try:
            present = [member for member in cls._members if member.key in items[0]]
            if {*map(len, items)} != {len(present)} or not {*required} <= {*present}:
                return None
            for _, key, _, read in present:
                kinds = {*map(type, map(itemgetter(key), items))}
                if read is number:
                    # A sum is finite only where all are, and quicker than to look at each; of
                    # absolute values, or two might make up for each other.
                    if not kinds <= {int, float} or not math.isfinite(
                        sum(map(abs, map(itemgetter(key), items)))
                    ):
                        return None
                elif kinds != {PLAIN.get(read)}:
                    return None
        except (TypeError, KeyError, OverflowError):
            return None
        # Without attributes, which follow from the dictionary: see __getattr__.
        models = [*map(cls.__new__, itertools.repeat(cls, len(items)))]
        filling: map[None] = map(cast("Any", dict).update, models, items)
        deque(filling, maxlen=0)
        return models

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            for member in self._members:
                if member.name == name:
                    return self.get(member.key)
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


def _plain(value: Any) -> Any:
    """Return the JSON value of a typed one."""
    # Most are, and to ask for a mapping takes long.
    if isinstance(value, (str, int, float)):
        return value
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return dict(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    return value


def json_body(response: httpx.Response) -> Any:
    """Return the JSON that a response, already read, carries.

    Raises:
        DescriptionError: its body is not JSON.
    """
    try:
        if too_deep(response.content):
            raise ValueError(f"nested more than {DEPTH} deep")
        return json.loads(response.content.decode("utf-8-sig"))
    except ValueError as error:
        raise DescriptionError(Fault(f"must be JSON ({error})")) from error


# Deepest JSON that is parsed. At Python's own limit, the finalizers of other objects, which a
# garbage collection may run at any moment, would fail.
DEPTH = 100
_STRING = re.compile(rb'"[^"]*"?')
_OTHERS = bytes({*range(256)} - {*b'[]{}"'})


def too_deep(content: bytes) -> bool:
    """Tell whether JSON is nested too deep; in few passes over it, none of them in Python."""
    if b"\\" in content:
        content = content.replace(rb"\\", b"").replace(rb"\"", b"")
    # Two quotes side by side are an empty string, or the end of one and the beginning of another.
    brackets = content.translate(None, _OTHERS).replace(b'""', b"")
    if len(brackets) <= DEPTH:
        return False
    if b'"' in brackets:
        brackets = _STRING.sub(b"", brackets)
    for _ in range(DEPTH):
        # Of one level, both kinds.
        outer = brackets.replace(b"{}", b" ").replace(b"[]", b"").replace(b" ", b"")
        if len(outer) == len(brackets):
            break
        brackets = outer
    # What is left has more levels, or is no JSON, and must not be taken for that too late.
    return (
        b"[]" in brackets
        or b"{}" in brackets
        or max(
            itertools.accumulate((1 if bracket in b"[{" else -1 for bracket in brackets), initial=0)
        )
        > DEPTH
    )


def content_length(response: httpx.Response) -> int:
    """Return the size that a response announces, in bytes.

    Raises:
        DescriptionError: it announces none.
    """
    announced = response.headers.get("Content-Length", "")
    if announced.isascii() and announced.isdecimal():
        return int(announced)
    raise DescriptionError(
        Fault(f"must be a size in bytes, not {announced!r}", ("Content-Length",))
    )


def segment(value: UUID | str) -> str:
    """Percent-encode one segment of a path.

    Raises:
        ValueError: it has surrogates that stand for no byte.
    """
    return _undotted(_quoted(str(value), ""))


def segments(value: str) -> str:
    """Percent-encode a path whose `/` stay (`%2F` is refused by Apache's default settings).

    Raises:
        ValueError: it has surrogates that stand for no byte.
    """
    return "/".join(map(_undotted, _quoted(value, "/").split("/")))


def _quoted(value: str, safe: str) -> str:
    try:
        # The names of files need not be UTF-8; Python has the other bytes as surrogates: PEP 383.
        return quote(value, safe, errors="surrogateescape")
    except UnicodeEncodeError:
        reason = "can't be part of a path: it has a surrogate that stands for no byte"
        raise ValueError(f"{value!r} {reason}") from None


def _undotted(quoted: str) -> str:
    # Clients and proxies resolve dot segments, which would lead to another endpoint.
    return quoted.replace(".", "%2E") if quoted in {".", ".."} else quoted
