"""The sticky cookie: which instance a client was on, signed so that nobody can choose one.

The value is NAME.SIGNATURE; the signature binds instance and app to the gateway's secret (HMAC-SHA256, 96 bits).
"""

from __future__ import annotations

import hashlib
import hmac


def _sign(app: str, instance: str, secret: bytes) -> str:
    return hmac.new(secret, f"{app}\0{instance}".encode(), hashlib.sha256).hexdigest()[:24]


def read(value: bytes, app: str, secret: bytes) -> str:
    """The instance's name; "" for no cookie, or one that is not ours."""
    name, _, signature = value.decode("latin-1").rpartition(".")
    if name and hmac.compare_digest(signature.encode("latin-1"), _sign(app, name, secret).encode()):
        return name
    return ""


def set_cookie(cookie: str, app: str, instance: str, ttl: float, secret: bytes, tls: bool) -> bytes:
    """The Set-Cookie field line, without CRLF."""
    secure = "; Secure" if tls else ""
    value = f"{instance}.{_sign(app, instance, secret)}"
    return f"Set-Cookie: {cookie}={value}; Path=/; Max-Age={int(ttl)}; HttpOnly; SameSite=Lax{secure}".encode()
