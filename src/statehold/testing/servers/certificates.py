"""Self-signed certificates for servers at 127.0.0.1."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Self

import msgspec

from statehold.testing.servers.finding import require
from statehold.testing.servers.processes import run


class Certificate(msgspec.Struct, frozen=True):
    """A certificate for localhost and 127.0.0.1 that is its own authority, valid for two days."""

    path: Path
    key: Path

    @classmethod
    def make(cls, folder: Path) -> Self:
        """A new one, in `folder`. Raises `Missing` or `Required` if there is no openssl."""
        openssl = shutil.which("openssl") or require("openssl", "no openssl on PATH to make a key")
        certificate, key = folder / "certificate.pem", folder / "key.pem"
        run(
            (
                *(openssl, "req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
                *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
                *("-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"),
                *("-out", str(certificate), "-keyout", str(key)),
            ),
            folder,
        )
        return cls(certificate, key)
