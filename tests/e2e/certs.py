"""Self-made certificates for servers and clients.  Needs the openssl program."""

import subprocess
from pathlib import Path
from typing import NamedTuple


_NEW_KEY = ["-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]


def _openssl(*words: str | Path) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, timeout=60)


class Certificate(NamedTuple):
    key: Path
    cert: Path


def make(directory: Path, names: list[str] = []) -> Certificate:
    """Writes key.pem and cert.pem into `directory`: for localhost, and for `names`."""
    pair = Certificate(directory / "key.pem", directory / "cert.pem")
    _openssl("req", "-x509", "-days", "30", *_NEW_KEY, "-subj", "/CN=localhost", "-addext",
             "subjectAltName=" + ",".join(f"DNS:{name}" for name in ("localhost", *names)),
             "-keyout", pair.key, "-out", pair.cert)
    return pair


class Authority:
    """Signs for clients; `directory` is made."""

    def __init__(self, directory: Path):
        directory.mkdir()
        self.directory = directory
        self.own = make(directory)

    def issue(self, name: str, days: int = 30) -> Certificate:
        """Days may be over already."""
        pair = Certificate(self.directory / f"{name}-key.pem", self.directory / f"{name}.pem")
        request = self.directory / f"{name}.csr"
        _openssl("req", "-new", *_NEW_KEY, "-subj", f"/CN={name}", "-addext", "extendedKeyUsage=clientAuth",
                 "-keyout", pair.key, "-out", request)
        _openssl("x509", "-req", "-in", request, "-CA", self.own.cert, "-CAkey", self.own.key, "-CAcreateserial",
                 "-days", str(days), "-copy_extensions", "copy", "-out", pair.cert)
        return pair
