"""Servers that others are behind, or that are to be waited for."""

import functools
import http.server
import os
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import net
from procs import Program, ProgramError, udp_sockets


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_) -> None:
        pass


def serve_files(stack: ExitStack, htdocs: Path) -> int:
    """By HTTP/1.1, from a port of 127.0.0.1, until the stack is left."""
    backend = stack.enter_context(http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=htdocs)))
    threading.Thread(target=backend.serve_forever, daemon=True).start()
    stack.callback(backend.shutdown)
    return backend.server_port


def wait_for_port(server: Program, addr: net.Addr) -> None:
    """The server is a grandchild, in a process namespace of its own: whose socket it is cannot be
    told from here, that there is one can."""
    deadline = time.monotonic() + 60
    while addr not in (bound for bound, _ in udp_sockets(os.getpid())):
        if server.status is not None:
            raise ProgramError(server.epitaph())
        if time.monotonic() > deadline:
            raise ProgramError(f"{server.name} does not listen on {addr}")
        time.sleep(0.05)
