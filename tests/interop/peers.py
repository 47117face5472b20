"""The other implementations: how each is asked for its version, started, and checked."""

import base64
import hashlib
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from procs import run
from root import Root


@dataclass
class Row:
    peer: str
    version: str
    role: str
    extension: str
    result: str
    note: str


@dataclass
class Download:
    """What a client is to get, and where; paths are those outside of the root directory."""

    host: str
    port: int
    content: Path
    certificate: Path
    run: Path


@dataclass
class Peer:
    name: str
    # What is there if it is installed, below the root directory
    needs: str
    version: Callable[[Root], str]
    # Clients: the command, and a check that raises Mismatch; both get a Download
    command: Callable[[Root, Download], list[str]] | None = None
    check: Callable[[Root, Download, bytes], None] | None = None
    # Servers: writes the configuration, returns the command; gets a Site, too
    serve: Callable[[Root, Download, Path, int], list[str]] | None = None
    # How often a connection is tried, if the first packets of some are not answered
    attempts: int = 1
    # What can be said of it in the table
    note: str = ""


# In objects.html
OBJECTS = 100


class Mismatch(Exception):
    """What was downloaded is not what was served."""


def _first(root: Root, *argv: str, pattern: str) -> str:
    _, out, err = run(root.command(*argv))
    found = re.search(pattern, (out + err).decode(errors="replace"))
    return found.group(1) if found else "unknown"


def same_file(root: Root, download: Download, _: bytes) -> None:
    there = download.run / "file"
    if not there.exists():
        raise Mismatch("no file")
    if there.read_bytes() != download.content.read_bytes():
        raise Mismatch(f"{there.stat().st_size:,} bytes that are not the file")


# Clients

def curl(root: Root, download: Download) -> list[str]:
    return ["curl", "--http3-only", "--insecure", "--silent", "--show-error", "--fail", "--max-time", "120",
            "--resolve", f"localhost:{download.port}:{download.host}",
            "--output", root.inside(download.run / "file"), f"https://localhost:{download.port}/file"]


def aioquic(root: Root, download: Download) -> list[str]:
    script = root.put(Path(__file__).with_name("aioquic_get.py"))
    return ["python3", script, download.host, str(download.port), "/file", root.inside(download.run / "file")]


def chromium(root: Root, download: Download, page: str = "page.html") -> list[str]:
    public_key = subprocess.run(["openssl", "x509", "-in", download.certificate, "-noout", "-pubkey"],
                                check=True, capture_output=True).stdout
    der = base64.b64decode(b"".join(public_key.splitlines()[1:-1]))
    spki = base64.b64encode(hashlib.sha256(der).digest()).decode()
    # No sandbox: that of Chromium does not work for root.
    return ["chromium-headless-shell", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            f"--user-data-dir={root.inside(download.run / 'profile')}", "--enable-quic",
            f"--origin-to-force-quic-on=localhost:{download.port}",
            f"--host-resolver-rules=MAP localhost {download.host}",
            f"--ignore-certificate-errors-spki-list={spki}", "--timeout=60000", "--dump-dom",
            f"https://localhost:{download.port}/{page}"]


def shown_in_page(root: Root, download: Download, output: bytes) -> None:
    content, checksum = download.content.read_bytes(), 0x811c9dc5
    for byte in content:
        checksum = (checksum ^ byte) * 0x01000193 & 0xffffffff
    wanted = f"status 200, {len(content)} bytes, checksum {checksum}"
    if wanted.encode() not in output:
        found = re.search(rb'id="result">([^<]*)', output)
        raise Mismatch(found.group(1).decode() if found else "the page did not load")


def check_objects(output: bytes) -> None:
    """Of objects.html: all are there, and each is what it should be."""
    if f"{OBJECTS} of {OBJECTS} objects".encode() not in output:
        found = re.search(rb'id="result">([^<]*)', output)
        raise Mismatch(found.group(1).decode() if found else "the page did not load")


# Servers

def nginx(root: Root, download: Download, site: Path, backend: int) -> list[str]:
    key, cert = (root.put(download.certificate.with_name(name)) for name in ("key.pem", "cert.pem"))
    (download.run / "nginx.conf").write_text(f"""
daemon off;
master_process off;
user root;
pid {root.inside(download.run)}/nginx.pid;
error_log stderr info;
events {{}}
http {{
  access_log off;
  types {{ text/html html; text/javascript js; }}
  client_body_temp_path {root.inside(download.run)}/body;
  server {{
    listen {download.host}:{download.port} quic;
    ssl_certificate {cert};
    ssl_certificate_key {key};
    root {root.inside(site)};
  }}
}}
""")
    return ["nginx", "-c", root.inside(download.run / "nginx.conf"), "-p", root.inside(download.run)]


def haproxy(root: Root, download: Download, site: Path, backend: int) -> list[str]:
    both = download.run / "both.pem"
    both.write_bytes(b"".join(download.certificate.with_name(name).read_bytes() for name in ("cert.pem", "key.pem")))
    (download.run / "haproxy.cfg").write_text(f"""
global
  limited-quic
defaults
  mode http
  timeout connect 10s
  timeout client 120s
  timeout server 120s
frontend quic
  bind quic4@{download.host}:{download.port} ssl crt {root.inside(both)} alpn h3
  default_backend files
backend files
  server files {download.host}:{backend}
""")
    return ["haproxy", "-db", "-f", root.inside(download.run / "haproxy.cfg")]


PEERS = [
    Peer("curl", "usr/bin/curl", lambda root: _first(root, "curl", "--version", pattern=r"(curl [\d.]+)")
         + ", " + _first(root, "curl", "--version", pattern=r"(nghttp3/[\d.]+)")
         + ", " + _first(root, "curl", "--version", pattern=r"((?:ngtcp2|OpenSSL)/[\d.]+)"),
         command=curl, check=same_file),
    Peer("aioquic", "usr/lib/python3/dist-packages/aioquic",
         lambda root: _first(root, "python3", "-c", "import aioquic; print(aioquic.__version__)", pattern=r"^([\d.]+)"),
         command=aioquic, check=same_file),
    Peer("Chromium", "usr/bin/chromium-headless-shell",
         lambda root: _first(root, "chromium-headless-shell", "--version", pattern=r"([\d.]+)"),
         command=chromium, check=shown_in_page, note="the page and the file that its script fetches"),
    Peer("nginx", "usr/sbin/nginx", lambda root: _first(root, "nginx", "-v", pattern=r"nginx/([\d.]+)"), serve=nginx),
    Peer("HAProxy", "usr/sbin/haproxy", lambda root: _first(root, "haproxy", "-v", pattern=r"version ([\d.]+)"),
         # ngtcp2 sends the ClientHello in pieces and out of order, on purpose; 3.0 leaves some of them
         # without an answer.  An unpatched gtlsclient is no better off.
         serve=haproxy, attempts=10, note="in front of an HTTP/1.1 server"),
]
