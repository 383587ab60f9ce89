"""Texts on their way out: as UTF-8, or refused with what they are."""

from __future__ import annotations

_SHOWN = 40
"""Characters of a long text that a refusal shows, on either side of what is wrong."""


def utf8(what: str, text: str) -> bytes:
    """The text as UTF-8. A lone surrogate, which Python's str can hold (os.fsdecode makes them of
    bytes that are no text), has none: it is refused with the text, called `what`."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        at = error.start
    begin, end = max(at - _SHOWN, 0), at + _SHOWN
    shown = f"{'…' if begin else ''}{text[begin:end]!r}{'…' if end < len(text) else ''}"
    raise ValueError(
        f"{what} {shown} cannot be written in UTF-8: its character {at}, {text[at]!r}, is a lone "
        "surrogate"
    )
