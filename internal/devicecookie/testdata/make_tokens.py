"""Makes the tokens of TestFormat, without the Go code. Needs python3-cryptography."""
import base64, hashlib, hmac, struct
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

def mac(key, *parts):
    return hmac.new(key, b"".join(parts), hashlib.sha256).digest()

def token(subkey, user, hash, nonce, time):
    key = {label: mac(subkey, label, b"\x01") for label in (b"user", b"time", b"binding")}
    plain = struct.pack(">I", time) + mac(key[b"user"], user)[:8]
    sealed = Cipher(algorithms.AES(key[b"time"]), modes.CTR(nonce)).encryptor().update(plain)
    body = b"\x01" + nonce + sealed
    binding = mac(key[b"binding"], struct.pack(">Q", len(user)), user, hash)
    return base64.urlsafe_b64encode(body + mac(binding, body)[:16]).decode()

a, b = b"subkey A of 32 bytes............", b"subkey B of 32 bytes............"
time = 1795694400  # 2026-11-26 12:00:00 UTC
print(token(a, b"alice", b"$2y$10$alice", b"\x01" * 16, time))
print(token(b, b"alice", b"$2y$10$alice", b"\x02" * 16, time))
print(token(a, b"", b"", b"\x03" * 16, time))
print(token(a, "ä:b".encode(), b"h" * 200, b"\x04" * 16, time))
