"""Session tokens as NextAuth v4 mints them, for the demo users."""

import base64
import json
import os
import time
import uuid

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_INFO = b"NextAuth.js Generated Encryption Key"
_LIFETIME_SECONDS = 30 * 24 * 3600


def mint(secret: str, user_id: str, name: str, role: str) -> str:
    """A compact JWE (`dir`, A256GCM) that is good for NextAuth's default of 30 days."""
    now = int(time.time())
    claims = {"sub": user_id, "name": name, "role": role, "iat": now, "exp": now + _LIFETIME_SECONDS}
    claims["jti"] = str(uuid.uuid4())
    header = _base64url(b'{"alg":"dir","enc":"A256GCM"}')
    nonce = os.urandom(12)
    sealed = AESGCM(_key(secret)).encrypt(nonce, json.dumps(claims).encode(), header.encode())
    text, tag = sealed[:-16], sealed[-16:]
    return ".".join([header, "", _base64url(nonce), _base64url(text), _base64url(tag)])


def _key(secret: str) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=b"", info=_INFO).derive(secret.encode())


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
