"""The scenarios of the demonstration in which a target moves that its client reaches through a proxy, a
proxy moves that forwards meanwhile, or both."""

import net
from demo_proxy import check_forwarded, directory, record
from proxied import ALLOW, Proxied
from scenario import Failed, Result, Stage
from two_hops import TwoHops, allow

MOVE_EVERY = "15ms"
LEAST_MOVES = 10
# Of the packets with a short header in each direction, over the whole download
LEAST_FORWARDED = 0.9
FOLLOW = "--enable-server-migration"


def _moving(*hosts: str) -> tuple[str, ...]:
    """Options of a server that moves among its first address and some of these hosts."""
    return (*(f"--alternate-addr={addr}" for addr in net.free_addrs(*hosts)), f"--migrate-every={MOVE_EVERY}")


def _judge(result: Result) -> None:
    for connection, ends in result.moves.items():
        if min(ends.values()) < LEAST_MOVES:
            raise Failed(f"{connection}: {ends}, which is less than {LEAST_MOVES} moves")
    check_forwarded(result, LEAST_FORWARDED)


def _once(**connections: int) -> None:
    for whose, count in connections.items():
        if count != 1:
            raise Failed(f"{whose} counts {count} connections")


def _one_hop(stage: Stage, result: Result, target_moves: bool, proxy_moves: bool) -> None:
    target = _moving("127.0.0.3", "127.0.0.4") if target_moves else ()
    proxy = (*ALLOW, *(_moving("127.0.0.5", "127.0.0.6") if proxy_moves else ()))
    with Proxied(stage.build, stage.proxied_site, directory(stage, result), target=target, proxy=proxy,
                 qlog=True, dialect="rfc9298") as world:
        outcome = world.start(FOLLOW).finish()
        at_proxy, at_target = world.stop()
    inner, outer = outcome.stats["server_migrations"], outcome.stats["proxy"]["server_migrations"]
    result.moves = {}
    if target_moves:
        result.moves["to the target"] = {"client": inner, "target": at_target["server_migrations"]}
    if proxy_moves:
        result.moves["to the proxy"] = {"client": outer, "proxy": at_proxy["server_migrations"]}
    record(stage, result, outcome, at_proxy)
    _once(proxy=at_proxy["proxy"]["connections"], target=at_target["connections"])
    _judge(result)


def two_hops(stage: Stage, result: Result) -> None:
    """By way of a first proxy and through a second one to a target; all three move."""
    second = "127.0.0.7", "127.0.0.8"
    with TwoHops(stage.build, stage.proxied_site, directory(stage, result),
                 first=(*allow("127.0.0.1", *second), *_moving("127.0.0.5", "127.0.0.6")),
                 proxy=(*ALLOW, *_moving(*second)), target=_moving("127.0.0.4"), qlog=True) as world:
        outcome = world.start_through(("rfc9298", "rfc9298"), FOLLOW).finish()
        at_first, at_second, at_target = world.stop_all()
    result.moves = {
        "to the target": {"client": outcome.stats["server_migrations"], "target": at_target["server_migrations"]},
        "to the second proxy": {"client": outcome.stats["proxy"]["server_migrations"],
                                "proxy": at_second["server_migrations"]},
        "to the first proxy": {"client": outcome.stats["via"]["server_migrations"],
                               "proxy": at_first["server_migrations"]}}
    record(stage, result, outcome, at_second)
    _once(first=at_first["proxy"]["connections"], second=at_second["proxy"]["connections"],
          target=at_target["connections"])
    _judge(result)


SCENARIOS = {
    "target-moves": lambda stage, result: _one_hop(stage, result, True, False),
    "proxy-moves": lambda stage, result: _one_hop(stage, result, False, True),
    "both": lambda stage, result: _one_hop(stage, result, True, True),
    "two-hops": two_hops,
}


def summary(result: Result) -> str:
    if not result.moves:
        return ""
    return ": " + "; ".join(f"{min(ends.values())} moves of the connection {connection}"
                            for connection, ends in result.moves.items())
