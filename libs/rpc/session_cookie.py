"""The cookie a browser proves its session with, and what keeps other pages from using it."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from libs.errors import PermissionDenied

NAME = "rml_session"

_ATTRIBUTES = "Path=/; HttpOnly; SameSite=Lax"


def token_in(cookies: str) -> str | None:
    """Returns the token in the value of a Cookie header, None when it has none."""
    for cookie in cookies.split(";"):
        name, separator, value = cookie.strip().partition("=")
        if name == NAME and separator:
            return value
    return None


def set_cookie(token: str, *, max_age: int, secure: bool) -> tuple[str, str]:
    """Returns the header that gives a browser a session for `max_age` seconds."""
    return ("set-cookie", f"{NAME}={token}; Max-Age={max_age}; {_ATTRIBUTES}{_secure(secure)}")


def clear_cookie(*, secure: bool) -> tuple[str, str]:
    """Returns the header that takes it away again."""
    return ("set-cookie", f"{NAME}=; Max-Age=0; {_ATTRIBUTES}{_secure(secure)}")


def is_secure(metadata: Mapping[str, object]) -> bool:
    """Tells whether the front door was called over TLS."""
    return metadata.get("x-forwarded-proto") == "https"


def check_origin(metadata: Mapping[str, object], allowed: Collection[str]) -> None:
    """Raises PermissionDenied unless the page that calls is of the called host itself or of an allowed origin.

    A browser adds the cookie whoever wrote the page; it also tells whose page it is, which a page cannot forge.
    """
    origin, scheme, host = (str(metadata.get(name, "")) for name in ("origin", "x-forwarded-proto", "x-forwarded-host"))
    own = (f"{scheme}://{host}".lower(),) if scheme and host else ()
    if origin.lower() not in (*own, *allowed):
        raise PermissionDenied(
            "A page may change something in a browser only from this host or an allowed origin, which the Origin header"
            " tells; programs send `Authorization: Bearer <token>` instead.",
            reason="ORIGIN_NOT_ALLOWED",
        )


def _secure(secure: bool) -> str:
    return "; Secure" if secure else ""
