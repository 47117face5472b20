"""The scenario of the demonstration that types what examples/OPERATING.md says."""

import os
import re
import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path

import files
import net
import stats
from demo_proxy import DIRECTIONS, LEAST_FORWARDED, packets_of
from procs import Program, ProgramError, environment
from scenario import Failed, Result, Stage

PAGE = Path(__file__).resolve().parents[2] / "examples" / "OPERATING.md"
# The ports in the page: of the proxy, of the client, of the target.  Free ones are used instead.
PORTS = "4443", "5353", "4433"
FILE = "file"


def commands() -> list[str]:
    """The lines of the page."""
    section = PAGE.read_text().split("\n## A first tunnel in five commands\n")[1].split("\n## ")[0]
    lines = re.findall(r"^    (.*)$", section, re.MULTILINE)
    if len(lines) != 5:
        raise Failed(f"{PAGE.name} has {len(lines)} commands instead of five")
    return lines


def first_tunnel(stage: Stage, result: Result) -> None:
    run = stage.out / result.name
    shutil.rmtree(run, ignore_errors=True)
    run.mkdir()
    examples = stage.build.resolve() / "examples"
    path = ":".join(map(str, (examples, examples / "ngmasque-proxy", examples / "ngmasque-client", os.environ["PATH"])))
    proxy, client, target = addrs = net.free_addrs(*["127.0.0.1"] * 3)
    ports = dict(zip(PORTS, (str(addr.port) for addr in addrs)))

    def shell(line: str) -> list[str]:
        line = re.sub(r"\b(" + "|".join(PORTS) + r")\b", lambda found: ports[found[1]], line)
        return ["bash", "-c", f"cd '{run}' && PATH='{path}' && {line}"]

    def type_in(line: str) -> None:
        done = subprocess.run(shell(line), stdin=subprocess.DEVNULL, capture_output=True, env=environment(), timeout=120)
        if done.returncode:
            raise ProgramError(f"{line}\n{(done.stdout + done.stderr).decode(errors='replace')}")

    certificate, user, run_proxy, run_client, download = commands()
    with ExitStack() as stack:
        def start(line: str, bound: net.Addr, name: str) -> Program:
            if not line.endswith(" &"):
                raise Failed(f"this is meant to stay in the background: {line}")
            # So that what is ended is the program, and not a shell around it
            program = Program(shell(f"exec {line.removesuffix(' &')}"), run / f"{name}.log", name)
            stack.enter_context(program).wait_bound([bound])
            return program

        type_in(certificate)
        type_in(user)
        site = stage.proxied_site
        (run / "site").mkdir()
        (run / "site" / FILE).symlink_to(site.file.resolve())
        start(f"gtlsserver -q -d site 127.0.0.1 {PORTS[2]} key.pem cert.pem &", target, "gtlsserver")
        start(run_proxy, proxy, "ngmasque-proxy")
        through = start(run_client, client, "ngmasque-client")
        type_in(download)
        if through.stop():
            raise ProgramError(through.epitaph())
    arrived = run / FILE
    result.bytes = arrived.stat().st_size
    result.sha256_ok = files.sha256(arrived) == site.sha256
    counted = {"proxy": stats.load_json(run / "stats.json")["total"]}
    result.proxy = {way: {"client": packets_of(counted, at_client)} for way, (at_client, _) in DIRECTIONS.items()}
    arrived.unlink()
    shutil.rmtree(run / "site")
    result.check_content(site.size)
    for way, sides in result.proxy.items():
        if (share := sides["client"]["forwarded_share_of_short_headers"]) < LEAST_FORWARDED:
            raise Failed(f"ngmasque-client counts {share:.1%} of the short headers as forwarded ({way})")


SCENARIOS = {"first-tunnel": first_tunnel}
