"""Encrypted connections: what `tls` means to a client, and what a server says against it."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any, Final

SILENT: Final = (
    "it does not speak TLS at this port: say tls=off, or have the server given a certificate"
)
DISTRUSTED: Final = (
    "its certificate is not accepted: it must be for this host, and of an authority of the system's"
    " or of the file that SSL_CERT_FILE names"
)


def context(settings: Mapping[str, Any]) -> ssl.SSLContext | None:
    """What encrypts connections; None for `tls=off`."""
    if settings["tls"] == "off":
        return None
    found = ssl.create_default_context()
    if settings["tls"] == "require":
        found.check_hostname = False
        found.verify_mode = ssl.CERT_NONE
    return found


def refusal(error: BaseException) -> str | None:
    """Why no encrypted connection can be made, now or later; None if that is not what failed."""
    said = str(getattr(error, "orig", None) or error)
    if "rejected SSL upgrade" in said or "SSL: WRONG_VERSION_NUMBER" in said:
        return SILENT
    return DISTRUSTED if "CERTIFICATE_VERIFY_FAILED" in said else None
