"""Clients that keep streams alive on engines, as a process of their own, and count how they end.

    python endless_streams.py STREAMS URL...

A client asks again as soon as its stream has ended. For each line of standard input there is a
line of JSON on standard output: how many streams are live, have ended well, and were lost. At the
end of standard input the live ones are awaited, and a last line follows.
"""

import asyncio
import json
import sys
from dataclasses import asdict, dataclass, field

import aiohttp

#: Long enough that nearly all streams are in their middle when a brake comes.
TOKENS = 200


@dataclass
class Account:
    """How streams fared; `lost` says what was wrong with each that did not end as it must."""

    live: int = 0
    ended: int = 0
    treated: int = 0
    lost: list[str] = field(default_factory=list)


async def stream(client: aiohttp.ClientSession, url: str, number: int) -> tuple[str, str]:
    """One stream; its flags, and what was wrong with it: empty when it is whole."""
    body = {
        "model": "tiny",
        "prompt": f"Story {number}: once upon a time",
        "max_tokens": TOKENS,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
        "user": f"user-{number}",
    }
    finish, tokens, done = None, 0, False
    async with client.post(f"{url}/v1/completions", json=body) as response:
        flags = response.headers.get("X-Phase5-Flags", "")
        if response.status != 200:
            return flags, f"status {response.status}: {await response.text()}"
        async for line in response.content:
            data = line.decode().removeprefix("data: ").strip()
            if data == "[DONE]":
                done = True
            elif data:
                event = json.loads(data)
                if "error" in event:
                    return flags, f"error event {event['error']}"
                for choice in event["choices"]:
                    finish = choice["finish_reason"] or finish
                tokens = (event.get("usage") or {}).get("completion_tokens", tokens)
    whole = done and finish == "length" and tokens == TOKENS
    return flags, "" if whole else f"finish {finish}, {tokens} of {TOKENS} tokens, done {done}"


async def keep_alive(
    client: aiohttp.ClientSession, url: str, number: int, account: Account, end: asyncio.Event
) -> None:
    """Stream after stream until the end."""
    while not end.is_set():
        account.live += 1
        try:
            flags, wrong = await stream(client, url, number)
        except aiohttp.ClientError as error:
            flags, wrong = "", repr(error)
        account.live -= 1
        account.treated += flags not in {"", "off"}
        if wrong:
            account.lost.append(wrong)
        else:
            account.ended += 1
        number += 1_000


async def main(streams: int, urls: list[str]) -> None:
    """Run the clients, and tell when asked."""
    account, end = Account(), asyncio.Event()
    timeout = aiohttp.ClientTimeout(total=120)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as client:
        clients = [
            asyncio.create_task(keep_alive(client, urls[n % len(urls)], n, account, end))
            for n in range(streams)
        ]
        while await asyncio.to_thread(sys.stdin.readline):
            say(account)
        end.set()
        await asyncio.gather(*clients)
    say(account)


def say(account: Account) -> None:
    """One line."""
    sys.stdout.write(json.dumps(asdict(account)) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2:]))
