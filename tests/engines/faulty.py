"""The real engine behind a proxy that spoils it, for proving that the gate notices.

    python tests/engines/faulty.py --fault errors=0.02 --model tiny --flags all --port 0

Everything but `--fault` goes to `phase5 serve`. With `--flags off` nothing is spoiled: the
control arm stays the healthy engine, behind the same proxy. Faults:

- `errors=SHARE`: that share of the completions is answered with 500;
- `ttft=FACTOR`: the first generated text comes after FACTOR times its own time;
- `cut=SHARE`: that share of the streams ends after its first text;
- `crash=SECONDS`: its runtime is killed that often;
- `same`: no flag is on, and the engine says that they are: both arms are alike.
"""

import argparse
import asyncio
import contextlib
import os
import random
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import ClientSession, ClientTimeout, web

from engine.core.flags import joined, parse_flag_set

#: Faults are drawn from this seed: the same requests in the same order are spoiled.
SEED = 7
#: The first chunk of a stream with generated text holds this; the role chunk does not.
TEXT_MARK = b'"content":"'
EMPTY_MARK = b'"content":""'
#: Hop-by-hop and length headers, which the proxy sets itself.
OWN_HEADERS = {"content-length", "transfer-encoding", "connection", "host"}

FAULTS = ("none", "errors", "ttft", "cut", "crash", "same")
FLAGS_HEADER = "X-Phase5-Flags"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def read_fault(text: str) -> tuple[str, float]:
    """`errors=0.02` as a pair."""
    kind, _, amount = text.partition("=")
    if kind not in FAULTS:
        raise argparse.ArgumentTypeError(f"unknown fault {kind!r}; allowed: {', '.join(FAULTS)}")
    return kind, float(amount or 0)


async def start_engine(arguments: list[str]) -> tuple[asyncio.subprocess.Process, str]:
    """Start the real engine and wait for its address."""
    engine = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "pytest_phase5.cli", "serve", *arguments),
        stdout=asyncio.subprocess.PIPE,
    )
    assert engine.stdout is not None
    line = (await engine.stdout.readline()).decode().split()
    if len(line) != 2 or line[0] != "ready":
        sys.exit(await engine.wait() or 1)
    return engine, line[1]


def claimed(status: dict[str, Any], flags: str) -> dict[str, Any]:
    """A status in which these flags are on."""
    names = [name for name in status["flags"] if flags == "all" or name in flags.split("+")]
    on = {name: {**status["flags"][name], "effective": 100} for name in names}
    return {**status, "flags": {**status["flags"], **on}}


def make_handler(
    upstream: str, fault: tuple[str, float], session: ClientSession, flags: str
) -> Handler:
    """A proxy for every path, which spoils completions only; `flags` are those to claim."""
    kind, amount = fault
    dice = random.Random(SEED)  # noqa: S311 - a seeded fault, not a secret

    async def handle(request: web.Request) -> web.StreamResponse:
        completion = request.path.endswith("/completions")
        unlucky = completion and dice.random() < amount
        if kind == "errors" and unlucky:
            return web.json_response({"error": {"message": "injected"}}, status=500)
        headers = {k: v for k, v in request.headers.items() if k.lower() not in OWN_HEADERS}
        clock = asyncio.get_running_loop().time
        began = clock()
        async with session.request(
            request.method, upstream + request.path_qs, headers=headers, data=await request.read()
        ) as answer:
            kept = {k: v for k, v in answer.headers.items() if k.lower() not in OWN_HEADERS}
            if kind == "same" and request.path == "/v1/status":
                return web.json_response(claimed(await answer.json(), flags))
            if kind == "same" and FLAGS_HEADER in answer.headers:
                kept = {k: v for k, v in kept.items() if k.lower() != FLAGS_HEADER.lower()}
                kept[FLAGS_HEADER] = joined(parse_flag_set(flags))
            response = web.StreamResponse(status=answer.status, headers=kept)
            await response.prepare(request)
            delayed = not (completion and kind == "ttft")
            async for chunk in answer.content.iter_any():
                has_text = TEXT_MARK in chunk.replace(b": ", b":").replace(EMPTY_MARK, b"")
                if has_text and not delayed:
                    await asyncio.sleep((amount - 1) * (clock() - began))
                    delayed = True
                await response.write(chunk)
                if has_text and kind == "cut" and unlucky:
                    break
            await response.write_eof()
            return response

    return handle


async def crash(upstream: str, every: float, session: ClientSession) -> None:
    """Kill the runtime again and again, for as long as the engine runs."""
    while True:
        await asyncio.sleep(every)
        async with session.get(f"{upstream}/v1/status") as answer:
            replicas = (await answer.json())["replicas"]
        for replica in replicas:
            if replica["pid"]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(replica["pid"], signal.SIGKILL)


async def main() -> int:
    """Serve until told to stop; returns the engine's exit status."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--fault", type=read_fault, default=("none", 0.0))
    options, arguments = parser.parse_known_args()
    flags = arguments[arguments.index("--flags") + 1] if "--flags" in arguments else "off"
    fault = options.fault if flags != "off" else ("none", 0.0)

    if fault[0] == "same":
        arguments[arguments.index("--flags") + 1] = "off"
    engine, upstream = await start_engine(arguments)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with ClientSession(timeout=ClientTimeout(total=None)) as session:
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", make_handler(upstream, fault, session, flags))
        runner = web.AppRunner(app, shutdown_timeout=5)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        print(f"ready http://{host}:{port}", flush=True)  # noqa: T201 - the line that the plugin waits for
        crashing = None
        if fault[0] == "crash":
            crashing = asyncio.ensure_future(crash(upstream, fault[1], session))
        ended = asyncio.ensure_future(engine.wait())
        waiting = asyncio.ensure_future(stop.wait())
        await asyncio.wait([ended, waiting], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if crashing is not None:
            crashing.cancel()
        with contextlib.suppress(ProcessLookupError):
            engine.terminate()
        status = await ended
        await runner.cleanup()
    return status


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
