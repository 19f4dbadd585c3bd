"""How the sandbox counts tokens.

A token is up to eight characters other than white space, with the white space before them; white space
at the end of a text is one token. The tokens of a text put together are the text again, and the tokens
of its first n tokens are those n: so a text cut to a number of tokens counts exactly that.
"""

import re

_TOKEN = re.compile(r"\s*\S{1,8}|\s+")


def split(text: str) -> list[str]:
    """Divides a text into its tokens."""
    return _TOKEN.findall(text)


def count(text: str) -> int:
    """Counts the tokens of a text."""
    return len(split(text))
