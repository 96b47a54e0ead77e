"""Streams that are sent."""

from __future__ import annotations

import io
import shutil
import tempfile
from typing import BinaryIO, cast

# Most that is kept in memory of a stream that has to be copied before it is sent, in bytes.
_SPOOL = 4 * 1024 * 1024


def sendable(stream: BinaryIO) -> BinaryIO:
    """Return a stream of what is left in another, which starts at 0 and knows its length.

    Servers refuse requests without a Content-Length, so what can't tell its length is copied first,
    to disk where it is large.

    Raises:
        TypeError: it is not a binary stream.
    """
    if type(stream) in (io.BytesIO, io.BufferedReader) and stream.seekable() and not stream.tell():
        return stream
    if not hasattr(stream, "read"):
        raise TypeError(f"environ must be a binary stream, not {type(stream).__name__}")
    copy = cast("BinaryIO", tempfile.SpooledTemporaryFile(max_size=_SPOOL))  # noqa: SIM115
    try:
        try:
            shutil.copyfileobj(stream, copy)
        finally:
            if hasattr(stream, "close"):  # read() is all that pl-sandbox-api asks for
                stream.close()
    except TypeError:
        copy.close()
        raise TypeError("environ must be a binary stream, not one of text") from None
    except BaseException:
        copy.close()
        raise
    copy.seek(0)
    return copy
