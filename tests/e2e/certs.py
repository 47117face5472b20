"""A self-made certificate for the server.  Needs the openssl program."""

import subprocess
from pathlib import Path
from typing import NamedTuple


class Certificate(NamedTuple):
    key: Path
    cert: Path


def make(directory: Path, names: list[str] = []) -> Certificate:
    """Writes key.pem and cert.pem into `directory`: for localhost, and for `names`."""
    pair = Certificate(directory / "key.pem", directory / "cert.pem")
    subprocess.run(
        ["openssl", "req", "-x509", "-nodes", "-days", "30",
         "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=" + ",".join(f"DNS:{name}" for name in ("localhost", *names)),
         "-keyout", str(pair.key), "-out", str(pair.cert)],
        check=True, capture_output=True, timeout=60)
    return pair
