#!/usr/bin/env python3
"""The installed library, and programs that somebody else builds on it.

    tests/install/test_install.py --build DIR [--filter TEXT]

Installs into an empty prefix, has CMake build a copy of examples/tutorial with what pkg-config says of that prefix, and
lets the client carry a UDP service through a proxy: the sample server, and the tutorial's own.
"""

import os
import shutil
import socket
import subprocess
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "e2e"))

import net
import tap
from procs import Program
from proxy_case import PacketCase
from udp_target import Target

ROOT = Path(__file__).resolve().parents[2]
# In seconds, of each answer
PATIENCE = 20


class InstallTest(PacketCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # Meson's, with the libraries in the build directory.
        os.environ.pop("LD_LIBRARY_PATH", None)
        cls.destdir = cls.work / "destination"
        cls.tell("meson", "install", "-C", cls.build, "--no-rebuild", "--quiet", DESTDIR=str(cls.destdir))
        # What pkg-config says holds wherever the prefix is.
        (cls.destdir / "opt" / "ngmasque").rename(prefix := cls.work / "prefix")
        cls.prefix = prefix

    @classmethod
    def tell(cls, *argv, **environment) -> str:
        done = subprocess.run(list(map(str, argv)), env={**os.environ, **environment}, text=True, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode:
            raise AssertionError(f"{' '.join(map(str, argv))}\n{done.stdout}")
        return done.stdout

    def pkg_config(self, *argv: str) -> list[str]:
        return self.tell("pkg-config", *argv, PKG_CONFIG_PATH=str(self.prefix / "lib" / "pkgconfig")).split()

    def test_files(self):
        """The libraries, shared and static, their headers, what pkg-config reads, the programs, and nothing else."""
        files = {str(path.relative_to(self.prefix)) for path in self.prefix.rglob("*") if not path.is_dir()}
        headers = ROOT / "plugin" / "include"
        public = {f"include/{path.relative_to(headers)}" for path in headers.rglob("*.h")}
        self.assertLessEqual(public, files)
        libraries = ("libngmasque", "libngtcp2", "libngtcp2_crypto_gnutls", "libnghttp3")
        for name in libraries:
            self.assertLessEqual({f"lib/{name}.a", f"lib/{name}.so", f"lib/pkgconfig/{name}.pc"}, files)
        programs = {name for program in ("proxy", "client") for name in (
            f"bin/ngmasque-{program}", f"share/man/man1/ngmasque-{program}.1", f"etc/ngmasque/{program}.toml",
            f"share/bash-completion/completions/ngmasque-{program}.bash")}
        self.assertLessEqual(programs, files)
        for name in files - public - programs:
            self.assertTrue(name.startswith(("include/ngtcp2/", "include/nghttp3/", "lib/pkgconfig/lib",
                                             *(f"lib/{library}." for library in libraries))), name)
        self.assertEqual([path.name for path in self.destdir.rglob("*") if not path.is_dir()], [], "outside of the prefix")

    def test_programs(self):
        """They find the library beside them, and what goes with them is theirs."""
        for program in ("proxy", "client"):
            binary = self.prefix / "bin" / f"ngmasque-{program}"
            libraries = self.tell("ldd", binary)
            for name in ("libngmasque", "libngtcp2", "libnghttp3"):
                self.assertRegex(libraries, rf"{name}\.so\S* => {self.prefix.resolve()}/bin/\.\./lib/|"
                                            rf"{name}\.so\S* => {self.prefix.resolve()}/lib/")
            for option, file in (("--man-page", f"share/man/man1/ngmasque-{program}.1"),
                                 ("--sample-config", f"etc/ngmasque/{program}.toml")):
                self.assertEqual(self.tell(binary, option), (self.prefix / file).read_text())

    def test_headers(self):
        """Each public header compiles by itself, with what pkg-config says."""
        names = sorted(path.relative_to(self.prefix / "include") for path in self.prefix.glob("include/ngmasque/**/*.h"))
        source = self.work / "headers.cc"
        source.write_text("".join(f"#include <{name}>\n" for name in names))
        self.tell("clang++-19", "-std=c++23", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", source,
                  *self.pkg_config("--cflags", "libngmasque"))

    def test_static(self):
        """A program can have the library in itself, and the others beside it."""
        source = self.work / "static.cc"
        source.write_text("#include <ngmasque/io/proxy_client.h>\n"
                          "int main() { return ngmasque::ParseAuthority(\"a:1\") ? 0 : 1; }\n")
        program = self.work / "static"
        # Without --static, which would want the static libraries of all that GnuTLS needs.
        others = self.pkg_config("--libs", "libngtcp2_crypto_gnutls", "libngtcp2", "libnghttp3", "gnutls", "nettle", "libcares")
        self.tell("clang++-19", "-std=c++23", source, *self.pkg_config("--cflags", "libngmasque"),
                  self.prefix / "lib" / "libngmasque.a", *others, "-lev", "-o", program, f"-Wl,-rpath,{self.prefix}/lib")
        self.tell(program)
        self.assertNotIn("libngmasque", self.tell("ldd", program))

    @classmethod
    def tutorial(cls) -> Path:
        """Where the tutorial's programs are, which are built once."""
        source = cls.work / "tutorial"
        if not source.exists():
            shutil.copytree(ROOT / "examples" / "tutorial", source)
            environment = {"PKG_CONFIG_PATH": str(cls.prefix / "lib" / "pkgconfig"), "CXX": "clang++-19"}
            cls.tell("cmake", "-S", source, "-B", source / "build", **environment)
            cls.tell("cmake", "--build", source / "build")
        return source / "build"

    def check_service(self, host: str, port: int, *trust: Path):
        """udp-forward carries a service through the proxy, both ways."""
        (local,) = net.free_addrs("127.0.0.1")
        with Target() as target, Program([self.tutorial() / "udp-forward", host, str(port), target.authority,
                                          str(local.port), *trust], self.work / "udp-forward.log") as forward:
            forward.wait_output("open")
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as user:
                user.settimeout(PATIENCE)
                for number in range(20):
                    # Not QUIC: first bytes of both forms of header, and packets of one byte.
                    question, answer = bytes([13 * number % 256]) * (1 + 50 * number), bytes([255 - number]) * (1 + number)
                    user.sendto(question, (local.host, local.port))
                    target.sock.settimeout(PATIENCE)
                    data, source_addr = target.sock.recvfrom(65536)
                    self.assertEqual(data, question)
                    target.sock.sendto(answer, source_addr)
                    self.assertEqual(user.recv(65536), answer)
            self.assertIsNone(forward.status)

    @unittest.skipUnless(shutil.which("cmake"), "cmake is missing")
    def test_tutorial_client(self):
        """With the sample server as the proxy.  What the programs load is that of the prefix."""
        for program in ("udp-forward", "udp-proxy"):
            loaded = self.tell("ldd", self.tutorial() / program)
            for library in ("libngmasque", "libngtcp2", "libnghttp3"):
                self.assertIn(f"{library}.so", loaded)
                self.assertEqual({line.split()[2].startswith(str(self.prefix)) for line in loaded.splitlines() if library in line},
                                 {True}, loaded)
        with self.proxy() as world:
            self.check_service(*world.proxy_addr)
            self.stop(world)

    @unittest.skipUnless(shutil.which("cmake"), "cmake is missing")
    def test_tutorial_proxy(self):
        """With the tutorial's own, whose certificate is verified."""
        (address,) = net.free_addrs("127.0.0.1")
        key, cert = self.site.certificate
        with Program([self.tutorial() / "udp-proxy", str(address), cert, key, "127.0.0.0/8"],
                     self.work / "udp-proxy.log") as proxy:
            proxy.wait_output(f"port {address.port}")
            self.check_service("localhost", address.port, cert)
            self.assertEqual(proxy.stop(), 0)
            proxy.wait_output("1 requests, 1 accepted")


if __name__ == "__main__":
    tap.main(InstallTest)
