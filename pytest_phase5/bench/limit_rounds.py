"""The two ways to the same tokens, as processes that run a round whenever they are told to.

    python -P -m pytest_phase5.bench.limit_rounds adapter MODEL_FOLDER   our adapter, in process
    python -P -m pytest_phase5.bench.limit_rounds http URL               an engine, over sockets

Over sockets each stream has a connection of its own.

Each line of standard input is a round (`Round` as JSON), each line of standard output what it
brought (`Result`). A round is a closed loop: `streams` streams at once, `requests` in all.
"""

import json
import selectors
import socket
import sys
import time
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

#: The client sleeps this long between two looks at its sockets and then takes all that came:
#: waking up for every token would cost the cores that the engine needs.
PAUSE_SECONDS = 0.001
#: Ends a chunked answer.
LAST_CHUNK = b"\r\n0\r\n\r\n"
#: A closing event, usage and the last chunk included, is shorter.
TAIL_BYTES = 1_000


@dataclass(frozen=True)
class Round:
    """What to ask: `prompts` are texts, and `tokens` the same as ids."""

    streams: int
    requests: int
    output: int
    prompts: list[str]
    tokens: list[list[int]]
    model: str = "tiny"


@dataclass(frozen=True)
class Result:
    """What came: output tokens, over how many seconds, for how many of this process's CPU."""

    tokens: int
    seconds: float
    cpu_seconds: float


class AdapterDriver:
    """Submits to the adapter and steps it, as the runtime's owner thread does."""

    def __init__(self, folder: Path) -> None:
        from pytest_phase5.bench.adapter import load_adapter

        self._adapter = load_adapter(folder)
        self._uid = 0

    def run(self, given: Round) -> int:
        """Run a round; the number of output tokens.

        Raises:
            RuntimeError: a turn was refused.
        """
        prompts = islice(cycle(given.tokens), given.requests)
        for prompt in islice(prompts, given.streams):
            self._submit(prompt, given.output)
        tokens = 0
        while self._adapter.busy:
            turn = self._adapter.step()
            if turn.refused:
                raise RuntimeError(f"refused: {turn.refused}")
            tokens += len(turn.tokens)
            ended = sum(token.finish is not None for token in turn.tokens)
            for prompt in islice(prompts, ended):
                self._submit(prompt, given.output)
        return tokens

    def _submit(self, prompt: list[int], output: int) -> None:
        from engine.runtime.messages import Submit

        self._uid += 1
        self._adapter.submit(
            Submit(uid=self._uid, prompt=prompt, max_tokens=output, seed=1, ignore_eos=True)
        )


class HttpDriver:
    """The cheapest client that we can write: it looks for the end of an answer, and no more."""

    def __init__(self, url: str) -> None:
        host, _, port = url.removeprefix("http://").rpartition(":")
        self._address = (host, int(port))

    def run(self, given: Round) -> int:
        """Run a round; the number of output tokens.

        Raises:
            RuntimeError: an answer that is not whole.
        """
        bodies = (_request(given, prompt) for prompt in cycle(given.prompts))
        asked = islice(bodies, given.requests)
        tails: dict[socket.socket, bytes] = {}
        whole = 0
        with selectors.DefaultSelector() as selector:
            for request in islice(asked, given.streams):
                sock = socket.create_connection(self._address)
                sock.sendall(request)
                selector.register(sock, selectors.EVENT_READ)
                tails[sock] = b""
            while tails:
                for key, _ in selector.select():
                    sock = key.fileobj  # type: ignore[assignment] # what was registered
                    if not _ended(sock, tails):
                        continue
                    whole += 1
                    if request := next(asked, b""):
                        sock.sendall(request)
                    else:
                        selector.unregister(sock)
                        del tails[sock]
                        sock.close()
                time.sleep(PAUSE_SECONDS)
        return whole * given.output


def _request(given: Round, prompt: str) -> bytes:
    asked: dict[str, Any] = {"model": given.model, "prompt": prompt, "max_tokens": given.output}
    body = json.dumps({**asked, "stream": True, "temperature": 0, "ignore_eos": True}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _ended(sock: socket.socket, tails: dict[socket.socket, bytes]) -> bool:
    """Take what came; whether that completes the answer."""
    data = sock.recv(1 << 18)
    tail = data[-TAIL_BYTES:] if len(data) >= TAIL_BYTES else (tails[sock] + data)[-TAIL_BYTES:]
    tails[sock] = tail
    if not tail.endswith(LAST_CHUNK):
        if not data or not (b"data: " in tail or tail.startswith(b"HTTP/1.1 200")):
            raise RuntimeError(f"not a stream: {tail!r}")
        return False
    if b'"finish_reason":"length"' not in tail:
        raise RuntimeError(f"an answer that is not whole: {tail!r}")
    tails[sock] = b""
    return True


def main() -> None:
    """Serve rounds until standard input ends."""
    kind, where = sys.argv[1:]
    driver = AdapterDriver(Path(where)) if kind == "adapter" else HttpDriver(where)
    print("ready", flush=True)  # noqa: T201 - the line that the benchmark waits for
    for line in sys.stdin:
        given = Round(**json.loads(line))
        began, cpu = time.perf_counter(), time.process_time()
        tokens = driver.run(given)
        result = Result(tokens, time.perf_counter() - began, time.process_time() - cpu)
        print(json.dumps(asdict(result)), flush=True)  # noqa: T201 - the protocol


if __name__ == "__main__":
    main()
