"""Streamed answers of a running engine, as their clients get them."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

import aiohttp


@dataclass
class Answer:
    """What one client got."""

    status: int = 0
    text: str = ""
    pieces: int = 0
    finish: str | None = None
    done: bool = False
    flags: str = ""
    begun: asyncio.Event = field(default_factory=asyncio.Event)


async def ask(client: aiohttp.ClientSession, number: int, answer: Answer, **body: Any) -> None:
    """Stream one answer and note when five pieces of it are there."""
    asked = {
        "model": "tiny",
        "prompt": f"Story number {number}: once upon a time",
        "max_tokens": 40,
        "ignore_eos": True,
        "stream": True,
        "temperature": (number % 2) * 0.9,  # half of them sampled
        "seed": number,
        **body,
    }
    async with client.post("/v1/completions", json=asked) as response:
        answer.status = response.status
        answer.flags = response.headers["x-phase5-flags"]
        async for line in response.content:
            data = line.decode().removeprefix("data: ").strip()
            if data == "[DONE]":
                answer.done = True
            elif data:
                choice = json.loads(data)["choices"][0]
                answer.text += choice["text"]
                answer.pieces += bool(choice["text"])
                answer.finish = choice["finish_reason"]
            if answer.pieces >= 5:
                answer.begun.set()
