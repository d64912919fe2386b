"""The wire format: from a record to the text of a token and back. Pure but for random bytes.

Theory of operation. A token is text of the base64url alphabet without padding, in one of two forms.

*Sealed*, one part:

    version 1 (1 byte) · key id (4) · salt (12) · nonce (12) · AES-256-GCM ciphertext · tag (16)

The plaintext is the record as msgpack, deflated if that helps. The associated data are the version,
the key id, the tenant and the kind, so the same bytes open nowhere else; the session's id is the
first thing in the plaintext, and `opened` compares it.

*Signed and readable*, two parts with a dot between them:

    the record as JSON . version 2 (1 byte) · key id (4) · HMAC-SHA256 (32)

The MAC is taken over version, key id, tenant, kind and the first part as it stands. A client reads
it with `JSON.parse(atob(…))`; it cannot change it.

Each token has exactly one text: padding, other alphabets and unused bits that are not zero are
refused, so no bit of it can change without being noticed. Nothing is decompressed or decoded before
the key has vouched for it, and nothing is looked at beyond `max_chars`.
"""

from __future__ import annotations

import binascii
import hmac
from typing import Final, Literal, NoReturn, TypeAlias

from statehold.drivers.token import record as records
from statehold.drivers.token.keys import (
    ID_BYTES,
    MAC_BYTES,
    NONCE_BYTES,
    SALT_BYTES,
    TAG_BYTES,
    Untrue,
)
from statehold.drivers.token.record import Malformed, Record
from statehold.drivers.token.ring import KeyRing
from statehold.drivers.token.squeeze import Bomb, expand, squeeze
from statehold.errors import Tampered

Form: TypeAlias = Literal["sealed", "signed"]

SEALED: Final = b"\x01"
SIGNED: Final = b"\x02"
_HEADER_BYTES: Final = 1 + ID_BYTES
_LEAST_SEALED: Final = _HEADER_BYTES + SALT_BYTES + NONCE_BYTES + TAG_BYTES + 2
_SIGNATURE_BYTES: Final = _HEADER_BYTES + MAC_BYTES

_TO_URL: Final = bytes.maketrans(b"+/", b"-_")
# What is in base64 but not in base64url becomes a character that is in neither.
_FROM_URL: Final = bytes.maketrans(b"-_+/=", b"+/!!!")


def sealed(record: Record, ring: KeyRing, max_bytes: int) -> str:
    """The token that says it and hides it. Beyond `max_bytes` it is not compressed."""
    key = ring.sealing
    header = SEALED + key.id
    plain = squeeze(records.pack(record), max_bytes)
    return encoded(header + key.seal(plain, _context(header, record.key[0], record.key[1])))


def signed(record: Record, ring: KeyRing, _max_bytes: int = 0) -> str:
    """The token that says it for everyone to read."""
    key = ring.sealing
    header = SIGNED + key.id
    page = encoded(records.write(record))
    mac = key.sign(_context(header, record.key[0], record.key[1]) + page.encode())
    return f"{page}.{encoded(header + mac)}"


def opened(
    token: str,
    ring: KeyRing,
    *,
    tenant: str,
    kind: str,
    session: str | None,
    max_chars: int,
    max_bytes: int,
) -> Record:
    """The record of a genuine token of this tenant and kind, and of this session unless None.

    `max_bytes` bounds what it may be decompressed to. Raises `Tampered` for anything else; `found`
    is "size", "form", "key", "seal" or "session", whatever was noticed first.
    """
    if len(token) > max_chars:
        refuse("size", f"longer than the {max_chars} characters that are looked at")
    page, dot, signature = token.partition(".")
    record = None
    wrong = ("seal", "altered, or made for another tenant or kind")
    try:
        record = (
            _from_signed(page, decoded(signature), ring, tenant, kind)
            if dot
            else _from_sealed(decoded(page), ring, tenant, kind, max_bytes)
        )
    except Untrue:
        pass
    except Tampered:
        raise
    except (Malformed, Bomb, ValueError):
        wrong = ("form", "not a token, or cut")
    if record is None:  # outside, so that the error does not hold one that holds the token
        refuse(*wrong)
    if session is not None and not hmac.compare_digest(record.key[2].encode(), session.encode()):
        refuse("session", "made for another session")
    return record


def _from_sealed(data: bytes, ring: KeyRing, tenant: str, kind: str, max_bytes: int) -> Record:
    if len(data) < _LEAST_SEALED or data[:1] != SEALED:
        raise Malformed
    header = data[:_HEADER_BYTES]
    key = ring.find(header[1:])
    if key is None:
        refuse("key", "its key is not in the ring")
    plain = key.unseal(data[_HEADER_BYTES:], _context(header, tenant, kind))
    return records.unpack(expand(plain, max_bytes), tenant, kind)


def _from_signed(page: str, signature: bytes, ring: KeyRing, tenant: str, kind: str) -> Record:
    if len(signature) != _SIGNATURE_BYTES or signature[:1] != SIGNED:
        raise Malformed
    header = signature[:_HEADER_BYTES]
    key = ring.find(header[1:])
    if key is None:
        refuse("key", "its key is not in the ring")
    signed_data = _context(header, tenant, kind) + page.encode("ascii")
    key.verify(signed_data, signature[_HEADER_BYTES:])
    return records.read(decoded(page))


def refuse(found: str, why: str) -> NoReturn:
    """Raise `Tampered`, which says what was noticed and nothing of the token."""
    raise Tampered(f"the token is not to be trusted: {why}", found=found)


def _context(header: bytes, tenant: str, kind: str) -> bytes:
    """What a token is bound to beside its session; no two contexts have the same bytes."""
    name = tenant.encode()
    return header + len(name).to_bytes(2) + name + kind.encode() + b"\x00"


def encoded(data: bytes) -> str:
    """Base64url without padding."""
    return binascii.b2a_base64(data, newline=False).rstrip(b"=").translate(_TO_URL).decode()


def decoded(text: str) -> bytes:
    """What was encoded. Raises ValueError for any text that `encoded` does not make."""
    chars = text.encode("ascii").translate(_FROM_URL)
    over = len(chars) % 4
    data = binascii.a2b_base64(chars + b"=" * (-len(chars) % 4), strict_mode=True)
    if over and encoded(data[1 - over :]) != text[-over:]:
        raise ValueError("unused bits are not zero")
    return data
