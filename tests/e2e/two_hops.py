"""Downloads through two proxies, of which the first leads to the second, and that to the target."""

import sys

import net
import stats
from net import Addr
from procs import Program, ProgramError
from proxied import Client, Proxied
from relay import Impairment, Relay
from transfer import TIMEOUT
from wire import Wire

# Each goes to the next address, and nowhere else.
SECOND, TARGET, FIRST = "127.0.0.1", "127.0.0.2", "127.0.0.3"


def allow(*hosts: str) -> tuple[str, ...]:
    return tuple(f"--connect-udp-allow={host}/32" for host in hosts)


class TwoHops(Proxied):
    """Proxied, whose proxy is the second one.  `way` is what a relay does to packets, up and down,
    between clients and the first one; `first` are that one's options, and `first_ring` its further addresses.
    On a `wire` the first proxy runs on its host "one" with the addresses of `first_ring` alone."""

    def __init__(self, *args, first: tuple[str, ...] = allow(SECOND), proxy: tuple[str, ...] = allow(TARGET),
                 first_ring: tuple[Addr, ...] = (), way: tuple[Impairment, Impairment] | None = None, seed: str = "1",
                 wire: Wire | None = None, **how):
        super().__init__(*args, proxy=proxy, hosts=(SECOND, TARGET), seed=seed, wire=wire, **how)
        if wire:
            self.first_addr, *first_ring = first_ring
            way_addr = self.first_addr
        else:
            self.first_addr, way_addr = net.free_addrs(FIRST, FIRST)
        self._inside_first = wire.inside("one") if wire else []
        self.first_seen = way_addr if way else self.first_addr
        self.way = Relay(way_addr, self.first_addr, *way, seed=f"{seed}/way") if way else None
        self._first_options = (*first, *(f"--alternate-addr={other}" for other in first_ring))
        self._first_ring = first_ring
        self.first: Program

    def __enter__(self) -> "TwoHops":
        super().__enter__()
        try:
            self.first = self.start_first()
            if self.way:
                self._entered.append(self.way.__enter__())
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def start_first(self) -> Program:
        addr = self.first_addr
        program = Program(
            [*self._inside_first, self._gtlsserver, "--quiet", "--connect-udp", f"--stats={self.run}/first-stats.json",
             *self._first_options, addr.host, str(addr.port), *self.site.certificate],
            self.run / "first.log", "first proxy")
        self._programs.append(program)
        program.wait_bound([addr, *self._first_ring])
        return program

    def start_through(self, dialects: tuple[str, str], *options: str, mode: str = "forward", first_mode: str = "",
                      **how) -> Client:
        """Starts a client; what is spoken with the first one and with the second one, and how packets
        go through both, or through the first one."""
        return self.start(f"--proxy-via=https://{self.first_seen}", f"--proxy-via-dialect={dialects[0]}",
                          f"--proxy-via-mode={first_mode or mode}", f"--proxy-dialect={dialects[1]}", *options,
                          mode=mode, **how)

    def stop_all(self) -> tuple[stats.Stats, stats.Stats, stats.Stats]:
        """Ends all, and returns the statistics of the first one, the second one and the target."""
        if self.first.stop(TIMEOUT) != 0:
            raise ProgramError(self.first.epitaph())
        return stats.load_proxy(self.run / "first-stats.json", "proxy"), *self.stop()
