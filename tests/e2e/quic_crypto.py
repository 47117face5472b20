"""What a QUIC endpoint needs of TLS 1.3 and of cryptography (RFC 9001), from the
GnuTLS library that the programs under test are linked with; so that an endpoint
written for tests in Python needs nothing else to be installed.

One cipher suite (TLS_AES_128_GCM_SHA256); certificates are not verified.
"""

import ctypes as c
import hashlib
import hmac
from collections.abc import Callable
from pathlib import Path

_tls = c.CDLL("libgnutls.so.30")
_tls.gnutls_strerror.restype = c.c_char_p

INITIAL, HANDSHAKE, APPLICATION = LEVELS = 0, 2, 3  # GnuTLS's numbers

_SERVER, _CLIENT, _NO_AUTO_SEND_TICKET, _NO_END_OF_EARLY_DATA = 1, 1 << 1, 1 << 21, 1 << 22
_CRD_CERTIFICATE = 1
_X509_FMT_PEM = 1
_NAME_DNS = 1
_E_AGAIN = -28
_CHANGE_CIPHER_SPEC = 254
_CIPHER_AES_128_CBC, _CIPHER_AES_128_GCM = 4, 10
_EXT_TLS = 2
_EXT_FLAG_CLIENT_HELLO, _EXT_FLAG_EE, _EXT_FLAG_TLS = 1 << 1, 1 << 4, 1 << 7
_QUIC_TRANSPORT_PARAMETERS = 57
_PRIORITY = b"NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+AES-128-GCM:%DISABLE_TLS13_COMPAT_MODE"

_SECRET_FUNC = c.CFUNCTYPE(c.c_int, c.c_void_p, c.c_int, c.c_void_p, c.c_void_p, c.c_size_t)
_READ_FUNC = c.CFUNCTYPE(c.c_int, c.c_void_p, c.c_int, c.c_int, c.c_void_p, c.c_size_t)
_ALERT_FUNC = c.CFUNCTYPE(c.c_int, c.c_void_p, c.c_int, c.c_int, c.c_int)
_EXT_RECV_FUNC = c.CFUNCTYPE(c.c_int, c.c_void_p, c.c_void_p, c.c_size_t)
_EXT_SEND_FUNC = c.CFUNCTYPE(c.c_int, c.c_void_p, c.c_void_p)


class CryptoError(Exception):
    pass


class _Datum(c.Structure):
    _fields_ = [("data", c.c_char_p), ("size", c.c_uint)]


def _check(status: int, what: str) -> int:
    if status < 0:
        raise CryptoError(f"{what}: {_tls.gnutls_strerror(status).decode()}")
    return status


class Tls:
    """The handshake of one connection.  `parameters` are our transport parameters; what
    it has to say, feed() hands over by calling `on_crypto` (level, data), `on_secrets`
    (level, secret to read or None, secret to write or None) and `on_parameters`."""

    def __init__(self, parameters: bytes, on_crypto: Callable[[int, bytes], None],
                 on_secrets: Callable[[int, bytes | None, bytes | None], None],
                 on_parameters: Callable[[bytes], None],
                 certificate: tuple[Path, Path] | None = None, server_name: str = "localhost"):
        def crypto(_, level, kind, data, size):
            if kind != _CHANGE_CIPHER_SPEC:
                on_crypto(level, c.string_at(data, size))
            return 0

        def secrets(_, level, read, write, size):
            on_secrets(level, c.string_at(read, size) if read else None,
                       c.string_at(write, size) if write else None)
            return 0

        def alert(_, level, severity, description):
            self.alert = description
            return 0

        def receive_extension(_, data, size):
            on_parameters(c.string_at(data, size))
            return 0

        def send_extension(_, buffer):
            return _tls.gnutls_buffer_append_data(c.c_void_p(buffer), parameters, c.c_size_t(len(parameters)))

        self.complete = False
        self.alert: int | None = None
        self._session = c.c_void_p()
        self._credentials = c.c_void_p()
        _check(_tls.gnutls_init(c.byref(self._session), (_SERVER if certificate else _CLIENT)
                                | _NO_AUTO_SEND_TICKET | _NO_END_OF_EARLY_DATA), "gnutls_init")
        _check(_tls.gnutls_priority_set_direct(self._session, _PRIORITY, None), "gnutls_priority_set_direct")
        _check(_tls.gnutls_certificate_allocate_credentials(c.byref(self._credentials)), "credentials")
        if certificate:
            key, cert = (str(path).encode() for path in certificate)
            _check(_tls.gnutls_certificate_set_x509_key_file(self._credentials, cert, key, _X509_FMT_PEM),
                   "gnutls_certificate_set_x509_key_file")
        else:
            name = server_name.encode()
            _check(_tls.gnutls_server_name_set(self._session, _NAME_DNS, name, c.c_size_t(len(name))), "SNI")
        _check(_tls.gnutls_credentials_set(self._session, _CRD_CERTIFICATE, self._credentials), "credentials")
        alpn = _Datum(b"h3", 2)
        _check(_tls.gnutls_alpn_set_protocols(self._session, c.byref(alpn), 1, 0), "ALPN")
        # GnuTLS keeps the addresses; this keeps what they are of.
        self._callbacks = (_SECRET_FUNC(secrets), _READ_FUNC(crypto), _ALERT_FUNC(alert),
                           _EXT_RECV_FUNC(receive_extension), _EXT_SEND_FUNC(send_extension))
        _tls.gnutls_handshake_set_secret_function(self._session, self._callbacks[0])
        _tls.gnutls_handshake_set_read_function(self._session, self._callbacks[1])
        _tls.gnutls_alert_set_read_function(self._session, self._callbacks[2])
        _check(_tls.gnutls_session_ext_register(
            self._session, b"QUIC Transport Parameters", _QUIC_TRANSPORT_PARAMETERS, _EXT_TLS,
            self._callbacks[3], self._callbacks[4], None, None, None,
            _EXT_FLAG_TLS | _EXT_FLAG_CLIENT_HELLO | _EXT_FLAG_EE), "gnutls_session_ext_register")

    def feed(self, level: int = INITIAL, data: bytes = b"") -> None:
        """Goes on with what has come in CRYPTO frames; a client begins without any."""
        if data:
            _check(_tls.gnutls_handshake_write(self._session, level, data, c.c_size_t(len(data))),
                   "gnutls_handshake_write")
        if not self.complete:
            status = _tls.gnutls_handshake(self._session)
            if status == 0:
                self.complete = True
            elif status != _E_AGAIN:
                _check(status, "gnutls_handshake")

    def close(self) -> None:
        """Gives the memory back; to be called once."""
        _tls.gnutls_deinit(self._session)
        _tls.gnutls_certificate_free_credentials(self._credentials)


def _expand_label(secret: bytes, label: str, length: int) -> bytes:
    name = b"tls13 " + label.encode()
    info = length.to_bytes(2) + bytes([len(name)]) + name + b"\0"
    return hmac.digest(secret, info + b"\1", "sha256")[:length]  # one block is enough for all


def initial_secrets(dcid: bytes) -> tuple[bytes, bytes]:
    """Of the client and of the server; RFC 9001, section 5.2."""
    salt = bytes.fromhex("38762cf7f55934b34d179ae6a4c80cadccbb7f0a")
    secret = hmac.digest(salt, dcid, "sha256")
    return _expand_label(secret, "client in", 32), _expand_label(secret, "server in", 32)


class Block:
    """AES-128, one block at a time."""

    def __init__(self, key: bytes):
        self._cipher = c.c_void_p()
        self._zero = bytes(16)
        datum, iv_datum = _Datum(key, 16), _Datum(self._zero, 16)
        # CBC of one block with a zero IV is the block cipher itself.
        _check(_tls.gnutls_cipher_init(c.byref(self._cipher), _CIPHER_AES_128_CBC, c.byref(datum),
                                       c.byref(iv_datum)), "AES")
        self._buffer = c.create_string_buffer(16)

    def _run(self, function, block: bytes) -> bytes:
        _tls.gnutls_cipher_set_iv(self._cipher, self._zero, c.c_size_t(16))
        _check(function(self._cipher, block, c.c_size_t(16), self._buffer, c.c_size_t(16)), "AES")
        return self._buffer.raw

    def encrypt(self, block: bytes) -> bytes:
        return self._run(_tls.gnutls_cipher_encrypt2, block)

    def decrypt(self, block: bytes) -> bytes:
        return self._run(_tls.gnutls_cipher_decrypt2, block)

    def close(self) -> None:
        """Gives the memory back; to be called once."""
        _tls.gnutls_cipher_deinit(self._cipher)


class Keys:
    """Protects packets of one encryption level in one direction, or takes that off."""

    def __init__(self, secret: bytes):
        key, self._iv, hp = (_expand_label(secret, f"quic {name}", size)
                             for name, size in (("key", 16), ("iv", 12), ("hp", 16)))
        self._iv_number = int.from_bytes(self._iv)
        self._aead = c.c_void_p()
        self._hp = Block(hp)
        datum = _Datum(key, 16)
        _check(_tls.gnutls_aead_cipher_init(c.byref(self._aead), _CIPHER_AES_128_GCM, c.byref(datum)), "AEAD")
        self._buffer = c.create_string_buffer(65536)
        self._size = c.c_size_t()

    def _nonce(self, number: int) -> bytes:
        return (self._iv_number ^ number).to_bytes(12)

    def seal(self, number: int, header: bytes, payload: bytes) -> bytes:
        self._size.value = 65536
        _check(_tls.gnutls_aead_cipher_encrypt(
            self._aead, self._nonce(number), c.c_size_t(12), header, c.c_size_t(len(header)), c.c_size_t(16),
            payload, c.c_size_t(len(payload)), self._buffer, c.byref(self._size)), "encrypt")
        return c.string_at(self._buffer, self._size.value)

    def open(self, number: int, header: bytes, sealed: bytes) -> bytes | None:
        """None: somebody else's packet, or a damaged one."""
        self._size.value = 65536
        if _tls.gnutls_aead_cipher_decrypt(
                self._aead, self._nonce(number), c.c_size_t(12), header, c.c_size_t(len(header)), c.c_size_t(16),
                sealed, c.c_size_t(len(sealed)), self._buffer, c.byref(self._size)) < 0:
            return None
        return c.string_at(self._buffer, self._size.value)

    def mask(self, sample: bytes) -> bytes:
        return self._hp.encrypt(sample)[:5]

    def close(self) -> None:
        """Gives the memory back; to be called once."""
        _tls.gnutls_aead_cipher_deinit(self._aead)
        self._hp.close()


def reset_token(secret: bytes, cid: bytes) -> bytes:
    return hashlib.sha256(secret + cid).digest()[:16]
