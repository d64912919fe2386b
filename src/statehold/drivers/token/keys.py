"""A key: what it seals, signs and opens. The only module that touches cryptography.

A key is 32 random bytes, written `sh1_` and base64url. Three keys are derived from it by
HKDF-Expand with SHA-256 (RFC 5869), each for one purpose:

* its *id*, 4 bytes, which stands in the clear in every token and tells which key opens it;
* the key of HMAC-SHA256 for signed tokens;
* for each sealed token one AES-256-GCM key of its own, from a random *salt* of 12 bytes. With a
  random nonce of 12 bytes besides, key and nonce of two tokens are the same only if 192 random bits
  are: the 2**32 tokens after which random nonces under one key become doubtful (NIST SP 800-38D,
  8.3) are no limit here. 2**64 tokens of one key repeat with a probability of 2**-65.
"""

from __future__ import annotations

import binascii
import hmac
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from statehold.clock import AMBIENT
from statehold.errors import ConfigError

PREFIX: Final = "sh1_"
ID_BYTES: Final = 4
SALT_BYTES: Final = 12
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
MAC_BYTES: Final = 32
_SECRET_BYTES: Final = 32
_TEXT_CHARS: Final = len(PREFIX) + 43


class Untrue(Exception):
    """What was opened was not made by this key, or not for this context. Internal."""


def derived(secret: bytes, length: int, purpose: bytes) -> bytes:
    """HKDF-Expand (RFC 5869, 2.3) with SHA-256, for up to 32 bytes: one block, which is one HMAC.

    The same bytes as `cryptography` derives, in half the time.
    """
    return hmac.digest(secret, b"statehold token 1 " + purpose + b"\x01", "sha256")[:length]


class Key:
    """One secret of 32 bytes. Neither `repr` nor an error shows it, and it cannot be pickled."""

    __slots__ = ("_secret", "_signing", "id")

    def __init__(self, secret: bytes) -> None:
        if len(secret) != _SECRET_BYTES:
            raise ConfigError(f"a key has {_SECRET_BYTES} bytes", field="keys", found=len(secret))
        self._secret = secret
        self._signing = derived(secret, 32, b"sign")
        self.id = derived(secret, ID_BYTES, b"id")
        """Which key it is; no secret."""

    @classmethod
    def new(cls) -> Key:
        """A key that no one else has."""
        return cls(AMBIENT.entropy(_SECRET_BYTES))

    @classmethod
    def parse(cls, text: str) -> Key:
        """The key that `text()` wrote. Raises `ConfigError`, which does not show the text."""
        text = text.strip()
        if len(text) == _TEXT_CHARS and text.startswith(PREFIX):
            try:
                body = text[len(PREFIX) :].translate({0x2D: "+", 0x5F: "/"})
                key = cls(binascii.a2b_base64(body + "=", strict_mode=True))
            except ValueError:
                pass
            else:
                if hmac.compare_digest(key.text(), text):
                    return key
        raise ConfigError(f"keys: not a key ({PREFIX} and 43 characters)", field="keys")

    def text(self) -> str:
        """The key itself, in writing. Whoever has it can make and read tokens."""
        body = binascii.b2a_base64(self._secret, newline=False).decode()
        return PREFIX + body.translate({0x2B: "-", 0x2F: "_"}).rstrip("=")

    def seal(self, plain: bytes, context: bytes) -> bytes:
        """Salt, nonce, ciphertext and tag. The context is bound, not carried."""
        random = AMBIENT.entropy(SALT_BYTES + NONCE_BYTES)
        cipher = AESGCM(derived(self._secret, 32, b"seal" + random[:SALT_BYTES]))
        return random + cipher.encrypt(random[SALT_BYTES:], plain, context)

    def unseal(self, sealed: bytes, context: bytes) -> bytes:
        """What was sealed. Raises `Untrue` unless it was, by this key and for this context."""
        cipher = AESGCM(derived(self._secret, 32, b"seal" + sealed[:SALT_BYTES]))
        nonce = sealed[SALT_BYTES : SALT_BYTES + NONCE_BYTES]
        try:
            return cipher.decrypt(nonce, sealed[SALT_BYTES + NONCE_BYTES :], context)
        except (InvalidTag, ValueError):
            raise Untrue from None

    def sign(self, data: bytes) -> bytes:
        """The HMAC-SHA256 of the data."""
        return hmac.digest(self._signing, data, "sha256")

    def verify(self, data: bytes, mac: bytes) -> None:
        """Raises `Untrue` unless it is this key's, compared in constant time."""
        if not hmac.compare_digest(self.sign(data), mac):
            raise Untrue

    def __repr__(self) -> str:
        return f"Key({self.id.hex()})"

    def __reduce__(self) -> str:
        raise TypeError("a key is not to be pickled")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Key) and hmac.compare_digest(self._secret, other._secret)

    def __hash__(self) -> int:
        return hash(self.id)
