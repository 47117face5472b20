#!/usr/bin/env python3
"""Whatever is wrong with a command line is told on stderr, with exit status 1 or 2, and
at once.  Where the sample programs print more than one line, that is upstream's usage.

    tests/e2e/test_bad_input.py --build DIR [--filter TEXT]
"""

import socket
import unittest
from pathlib import Path

import certs
import net
import tap
from procs import crash_report, run

# A program that has not refused its command line by then is one that runs.
TIMEOUT = 60


UNKNOWN = "no-such-option"


class BadInput(unittest.TestCase):
    """The test methods are made from the tables below."""

    build: Path

    @classmethod
    def setUpClass(cls):
        cls.work = tap.temporary_directory(cls)
        cls.pair = certs.make(cls.work)
        (cls.work / "garbage.pem").write_text("this is no PEM file\n")
        (cls.work / "occupied").write_text("a file where a directory should be\n")

    def setUp(self):
        self.addr, self.other = net.free_addrs("127.0.0.1", "127.0.0.2")

    def refuse(self, program: str, args: list[str], word: str) -> None:
        """Runs `program` and checks that it explains with `word` why it does not want to."""
        status, stdout, stderr = run([self.build / "examples" / program, *args], TIMEOUT)
        text = stderr.decode(errors="replace")
        self.assertIsNone(crash_report(stdout + stderr))
        self.assertIn(status, (1, 2), text)
        self.assertTrue(text.strip(), "nothing is said")
        self.assertLess(len(text.splitlines()), 10, text)
        self.assertIn(word.lower(), text.lower())
        # Not because the program does not know the option at all
        if word != UNKNOWN:
            self.assertNotIn("unrecognized option", text)

    def substitute(self, args: list[str]) -> list[str]:
        return [arg.format(work=self.work, key=self.pair.key, cert=self.pair.cert, host=self.addr.host,
                           port=self.addr.port, other=self.other, other_port=self.other.port) for arg in args]

    # Those that need something that runs meanwhile

    def test_server_alternate_port_taken(self):
        with socket.socket(self.other.family, socket.SOCK_DGRAM) as sock:
            sock.bind(self.other)
            self.refuse("gtlsserver", self.substitute(
                ["--alternate-addr={other}", "{host}", "{port}", "{key}", "{cert}"]), str(self.other.port))

    def test_client_no_proxy_answers(self):
        self.refuse("gtlsclient", self.substitute(
            ["--quiet", "--timeout=1s", "--proxy=https://{other}", "{host}", "{port}",
             "https://localhost:{port}/"]), "proxy")

    def test_client_nobody_answers(self):
        self.refuse("gtlsclient", self.substitute(
            ["--quiet", "--handshake-timeout=1s", "{host}", "{port}", "https://localhost:{port}/"]), "")


# Name, options and word, to which what a server needs is added
SERVER_OPTIONS = [
    ("unknown_option", [f"--{UNKNOWN}"], UNKNOWN),
    ("option_without_argument", ["--alternate-addr"], "alternate-addr"),
    *[(f"alternate_addr_{name}", [f"--alternate-addr={value}"], "alternate-addr") for name, value in {
        "empty": "", "word": "foo", "no_port": "127.0.0.1", "empty_port": "127.0.0.1:",
        "port_0": "127.0.0.1:0", "port_70000": "127.0.0.1:70000", "port_negative": "127.0.0.1:-1",
        "port_word": "127.0.0.1:http!", "no_bracket": "[::1", "no_port_v6": "[::1]", "bare_v6": "::1:4433",
        "five_octets": "1.2.3.4.5:1", "octet_300": "1.2.3.300:1", "any": "*:4433", "only_port": ":4433",
        "comma": ",", "trailing_comma": "{other},", "leading_comma": ",{other}", "two_ipv4": "{other},127.0.0.3:{port}",
        "two_ipv6": "[::1]:{port},[::1]:{other_port}", "three": "{other},[::1]:{port},[::1]:{other_port}",
        "bad_second": "{other},[::1]",
    }.items()],
    ("alternate_addr_twice_in_pair", ["--alternate-addr={other}", "--alternate-addr={other},[::1]:{other_port}"],
     "{other_port}"),
    ("argument_to_disable_active_migration", ["--disable-active-migration=yes"], "disable-active-migration"),
    ("alternate_addr_twice", ["--alternate-addr={other}", "--alternate-addr={other}"], "{other_port}"),
    ("alternate_addr_is_main", ["--alternate-addr={host}:{port}"], "{port}"),
    # TEST-NET-1 is nobody's
    ("alternate_addr_not_ours", ["--alternate-addr=192.0.2.1:4433"], "192.0.2.1"),
    *[(f"{option.replace('-', '_')}_{name}", ["--alternate-addr={other}", f"--{option}={value}"], option)
      for option in ("migrate-every", "migrate-after")
      for name, value in {"empty": "", "word": "soon", "negative": "-1s", "unit": "5parsec",
                          "huge": "99999999999999999999s"}.items()],
    ("migrate_every_without_addr", ["--migrate-every=1s"], "alternate-addr"),
    ("migrate_after_without_addr", ["--migrate-after=1s"], "alternate-addr"),
    ("stats_no_directory", ["--stats={work}/missing/stats.json"], "stats"),
    ("stats_is_directory", ["--stats={work}"], "stats"),
    ("qlog_no_directory", ["--qlog-dir={work}/missing"], "qlog"),
    ("qlog_is_file", ["--qlog-dir={work}/occupied"], "qlog"),
    ("timeout_word", ["--timeout=later"], "timeout"),
    *[(f"connect_udp_{option.replace('-', '_')}_{name}", ["--connect-udp", f"--connect-udp-{option}={value}"],
       f"connect-udp-{option}")
      for option in ("forwarding", "port-sharing", "connection-ids") for name, value in {
          "empty": "", "word": "perhaps", "number": "1"}.items()],
    *[(f"connect_udp_allow_{name}", ["--connect-udp", f"--connect-udp-allow={value}"], "connect-udp-allow")
      for name, value in {"empty": "", "word": "everything", "name": "localhost/8", "33_bits": "10.0.0.0/33",
                          "129_bits": "::/129", "negative": "10.0.0.0/-1", "no_bits": "10.0.0.0/",
                          "bits_word": "10.0.0.0/many", "five_octets": "1.2.3.4.5/8", "two": "10.0.0.0/8,11.0.0.0/8"
                          }.items()],
    *[(f"connect_udp_ports_{name}", ["--connect-udp", f"--connect-udp-ports={value}"], "connect-udp-ports")
      for name, value in {"empty": "", "word": "https", "zero": "0", "65536": "65536", "backwards": "443-80",
                          "open": "1024-", "no_end": "443,"}.items()],
    *[(f"connect_udp_{option.replace('-', '_')}_{name}", ["--connect-udp", f"--connect-udp-{option}={value}"],
       f"connect-udp-{option}")
      for option in ("min-connection-id", "max-flows", "max-connection-ids", "max-sockets", "max-early-datagrams",
                     "rate")
      for name, value in {"empty": "", "word": "some", "negative": "-1", "huge": "99999999999999999999"}.items()],
    ("connect_udp_min_connection_id_256", ["--connect-udp", "--connect-udp-min-connection-id=256"],
     "connect-udp-min-connection-id"),
]
SERVER_COMMANDS = [
    ("no_arguments", [], "arguments"),
    ("too_few_arguments", ["{host}", "{port}", "{key}"], "arguments"),
    ("port_70000", ["{host}", "70000", "{key}", "{cert}"], "port"),
    ("port_word", ["{host}", "https!", "{key}", "{cert}"], "port"),
    ("address_not_ours", ["192.0.2.1", "{port}", "{key}", "{cert}"], "192.0.2.1"),
    ("key_missing", ["{host}", "{port}", "{work}/missing.pem", "{cert}"], "file"),
    ("key_is_directory", ["{host}", "{port}", "{work}", "{cert}"], "file"),
    ("key_garbage", ["{host}", "{port}", "{work}/garbage.pem", "{cert}"], ""),
    ("cert_missing", ["{host}", "{port}", "{key}", "{work}/missing.pem"], "file"),
    ("cert_garbage", ["{host}", "{port}", "{key}", "{work}/garbage.pem"], ""),
]
CLIENT_OPTIONS = [
    ("unknown_option", [f"--{UNKNOWN}"], UNKNOWN),
    ("argument_to_flag", ["--enable-server-migration=yes"], "enable-server-migration"),
    ("stats_no_directory", ["--stats={work}/missing/stats.json"], "stats"),
    ("stats_is_directory", ["--stats={work}"], "stats"),
    ("download_no_directory", ["--download={work}/missing"], "download"),
    ("download_is_file", ["--download={work}/occupied"], "download"),
    ("qlog_no_directory", ["--qlog-dir={work}/missing"], "qlog"),
    ("timeout_word", ["--timeout=later"], "timeout"),
    *[(f"server_migration_delay_{name}", [f"--server-migration-delay={value}"], "server-migration-delay")
      for name, value in {"empty": "", "word": "soon", "negative": "-1s", "unit": "5parsec",
                          "huge": "99999999999999999999s"}.items()],
    ("argument_to_any_port", ["--server-migration-any-port=53"], "server-migration-any-port"),
    *[(f"proxy_{name}", [f"--proxy={value}"], "proxy") for name, value in {
        "empty": "", "word": "proxy", "no_scheme": "127.0.0.1:{other_port}", "http": "http://127.0.0.1:{other_port}",
        "port_0": "https://127.0.0.1:0", "port_70000": "https://127.0.0.1:70000", "no_host": "https://:443",
        "port_word": "https://127.0.0.1:https", "no_bracket": "https://[::1:443"}.items()],
    *[(f"{option.replace('-', '_')}_{name}", ["--proxy=https://{other}", f"--{option}={value}"], option)
      for option, values in {
          "proxy-mode": {"empty": "", "word": "both"},
          "proxy-dialect": {"empty": "", "word": "draft-99"},
          "proxy-via": {"empty": "", "no_scheme": "127.0.0.1:{other_port}"},
          "proxy-via-mode": {"word": "both"},
          "proxy-via-dialect": {"word": "draft-99"},
          "proxy-ca": {"missing": "{work}/missing.pem", "directory": "{work}", "garbage": "{work}/garbage.pem"},
          "proxy-qlog-dir": {"no_directory": "{work}/missing", "file": "{work}/occupied"}}.items()
      for name, value in values.items()],
]
CLIENT_COMMANDS = [
    ("no_arguments", [], "arguments"),
    ("no_port", ["{host}"], "arguments"),
    ("port_70000", ["{host}", "70000", "https://localhost/"], "port"),
    ("port_0", ["{host}", "0", "https://localhost/"], "port"),
    ("uri_word", ["{host}", "{port}", "not-a-uri"], "not-a-uri"),
]


def _add(program: str, name: str, args: list[str], word: str) -> None:
    def test(self):
        self.refuse(program, self.substitute(args), *self.substitute([word]))
    setattr(BadInput, f"test_{program[4:]}_{name}", test)


for _name, _args, _word in SERVER_COMMANDS:
    _add("gtlsserver", _name, _args, _word)
for _name, _args, _word in SERVER_OPTIONS:
    _add("gtlsserver", _name, [*_args, "{host}", "{port}", "{key}", "{cert}"], _word)
for _name, _args, _word in CLIENT_COMMANDS:
    _add("gtlsclient", _name, _args, _word)
for _name, _args, _word in CLIENT_OPTIONS:
    _add("gtlsclient", _name, [*_args, "{host}", "{port}", "https://localhost:{port}/"], _word)


if __name__ == "__main__":
    tap.main(BadInput)
