"""What the owner thread of the runtime process does: load the model, then serve its inbox."""

import logging
import os
import socket
import time
import traceback
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import mlx.core as mx
from mlx_lm.utils import dequantize_model, load_model

from engine.core.speculation import Speculation
from engine.runtime import blas, kv, memory
from engine.runtime.adapter import Adapter
from engine.runtime.drafting import ModelDrafter
from engine.runtime.framing import encode
from engine.runtime.messages import (
    Cancel,
    Evict,
    Fault,
    Faulted,
    Forget,
    FromRuntime,
    Pause,
    Ready,
    Resume,
    Step,
    Stop,
    Submit,
    ToRuntime,
    Warm,
)
from engine.runtime.speculating import Speculator
from engine.runtime.stream import Turn

log = logging.getLogger("engine.runtime.worker")

Inbox = SimpleQueue[ToRuntime]


class Worker:
    """The loop of the owner thread: drain the inbox, step, publish one frame.

    Nothing polls: without streams it sleeps on its inbox.
    """

    def __init__(self, adapter: Adapter, inbox: Inbox, link: socket.socket, epoch: int) -> None:
        self._adapter = adapter
        self._inbox = inbox
        self._link = link
        self._epoch = epoch
        self._memory = memory.Gauge()
        self._cpu_told = 0.0  #: seconds of processor time, of which the front end knows
        self._stopping = False
        self._stale = False  #: what was published last is not what holds

    def run(self) -> None:
        """Say that we are ready, then serve until `Stop`."""
        self._send(Ready(epoch=self._epoch, pid=os.getpid(), blas=blas.loaded(), device=device()))
        while not self._stopping:
            self._drain()
            if self._stopping:
                break
            if self._adapter.busy:
                self._turn()
            elif self._stale:
                self._publish(Turn())
        self._adapter.close()

    def _drain(self) -> None:
        """Take every message that is there; wait for one when there is nothing better to do."""
        try:
            self._receive(self._inbox.get(block=not self._adapter.busy))
            while not self._stopping:
                seconds = self._adapter.lingers()
                self._receive(self._inbox.get(block=seconds > 0, timeout=seconds))
        except Empty:
            return

    def _receive(self, message: ToRuntime) -> None:
        self._stale = True
        try:
            self._obey(message)
        except Exception as error:  # noqa: BLE001  # what copies caches may run out of memory
            self._recover(error)

    def _obey(self, message: ToRuntime) -> None:
        match message:
            case Submit():
                self._adapter.submit(message)
            case Warm():
                self._adapter.warm(message)
            case Forget(uid=uid):
                self._adapter.forget(uid)
            case Cancel(uid=uid):
                self._adapter.cancel(uid)
            case Pause(uid=uid):
                self._adapter.pause(uid)
            case Resume(uid=uid):
                self._adapter.resume(uid)
            case Evict(keep_bytes=keep_bytes):
                self._adapter.evict(keep_bytes)
                self._memory.forget()
            case Stop():
                self._stopping = True

    def _turn(self) -> None:
        try:
            turn = self._adapter.step()
        except Exception as error:  # noqa: BLE001  # any of them leaves the generator unusable
            self._recover(error)
            turn = Turn()
        for uid, reason in turn.refused:
            self._send(Fault(epoch=self._epoch, uid=uid, reason=reason))
        self._publish(turn)
        self._settle()

    def _settle(self) -> None:
        """What nobody waits for comes after the tokens are sent."""
        try:
            settled = self._adapter.settle()
        except Exception as error:  # noqa: BLE001  # copies may run out of memory
            self._recover(error)
            return
        if settled and not self._adapter.busy:
            self._publish(Turn())  # or what is stored would not show before the next stream

    def _recover(self, error: Exception) -> None:
        """Throw the generator away, and say who lost a row by that."""
        # Type and place only: the message of an exception may quote a prompt.
        place = "".join(traceback.format_tb(error.__traceback__))
        log.error("discarding the generator: %s\n%s", type(error).__name__, place)
        read_ahead = self._adapter.reads_ahead
        lost = self._adapter.discard()
        reason = type(error).__name__
        if memory.is_out_of_memory(error):
            reason = "out of memory"
            self._adapter.evict(0)
            self._memory.forget()
        if lost:
            self._send(Faulted(epoch=self._epoch, uids=lost, reason=reason, read_ahead=read_ahead))

    def _publish(self, turn: Turn) -> None:
        self._stale = False
        used = time.process_time()
        since, self._cpu_told = used - self._cpu_told, used
        self._send(
            Step(
                epoch=self._epoch,
                tokens=turn.tokens,
                prefills=turn.prefills,
                warmed=turn.warmed,
                read_ahead=turn.read_ahead,
                expired=turn.expired,
                rows=self._adapter.rows,
                waiting=self._adapter.waiting,
                kv_bytes=self._adapter.kv_bytes,
                parked_bytes=self._adapter.parked_bytes,
                prefix_bytes=self._adapter.prefix_bytes,
                pinned_bytes=self._adapter.pinned_bytes,
                memory_bytes=self._memory.value(time.monotonic()),
                drafted=turn.drafted,
                accepted=turn.accepted,
                cpu_seconds=since,
                speculating=self._adapter.speculating,
            )
        )

    def _send(self, message: FromRuntime) -> None:
        # Blocks when the front end does not read: generating ahead of it has no use.
        self._link.sendall(encode(message))


def load(
    model_folder: Path,
    *,
    max_rows: int,
    prefill_chunk: int,
    prefill_rows: int,
    prefix_bytes: int,
    kv_bytes: int | None = None,
    replicas: int = 1,
    draft_tokens: int = 0,
    draft_folder: Path | None = None,
) -> Adapter:
    """The model on the device, with one output through it so that the first stream is no slower.

    Args:
        model_folder: its files.
        max_rows: as for `Adapter`.
        prefill_chunk: as for `Adapter`.
        prefill_rows: as for `Adapter`.
        prefix_bytes: as for `Adapter`.
        kv_bytes: budget of the caches of live streams; None takes a share of what is free.
        replicas: processes that share what is free.
        draft_tokens: longest draft; 0 for none.
        draft_folder: files of a model that drafts.

    Raises:
        Exception: whatever mlx-lm raises for a folder that it cannot read.
    """
    model, config = load_weights(model_folder)
    draft_model = load_weights(draft_folder)[0] if draft_folder else None
    speculator = make_speculator(model, draft_tokens, draft_model)
    ahead = draft_tokens if speculator else 0
    budget = kv.budget(model, kv_bytes, replicas, draft_model, ahead)
    log.info("KV caches may take %d bytes; a row %d at least", budget.total, budget.needed(1, 1))
    adapter = Adapter(
        model,
        eos=eos_ids(config),
        max_rows=max_rows,
        prefill_chunk=prefill_chunk,
        prefill_rows=prefill_rows,
        prefix_bytes=prefix_bytes,
        kv=budget,
        speculator=speculator,
    )
    adapter.submit(Submit(uid=0, prompt=[0, 1], max_tokens=2, seed=0, ignore_eos=True))
    while adapter.busy:
        adapter.step()
    return adapter


def load_weights(folder: Path) -> tuple[Any, dict[str, Any]]:
    """A model on the device, and its configuration."""
    model, config = load_model(folder, lazy=True)
    if device() == "cpu":
        # There fp32 is the fast type: products of 16 or 4 bits run at a thirtieth of its speed.
        model = dequantize_model(model)
        model.set_dtype(mx.float32)
    mx.eval(model.parameters())
    return model, config


def make_speculator(model: Any, draft_tokens: int, draft_model: Any | None) -> Speculator | None:
    """What gives streams several tokens a step; None where that is not asked for or not possible.

    Raises:
        ValueError: a model shall draft, and the caches of one of the two cannot be cut.
    """
    cuts = kv.cuts(model)
    if draft_model is not None and not (cuts and kv.cuts(draft_model)):
        culprit = "draft model" if cuts else "model"
        raise ValueError(
            f"runtime.speculation.draft_model: the KV cache of the {culprit} cannot be cut, "
            "so that wrong drafts could not be taken back"
        )
    if draft_tokens == 0:
        return None
    if not cuts:
        log.info("no speculation: the KV cache of this model cannot be cut")
        return None
    by = "prompt look-up" if draft_model is None else "prompt look-up and a draft model"
    log.info("speculation by %s, %d tokens at most, where it pays", by, draft_tokens)
    drafter = ModelDrafter(draft_model) if draft_model else None
    return Speculator(Speculation(draft_tokens), drafter)


def eos_ids(config: dict[str, Any]) -> list[int]:
    """The end tokens of a model's configuration: none, one, or several."""
    given = config.get("eos_token_id")
    if given is None:
        return []
    return [given] if isinstance(given, int) else list(given)


def device() -> str:
    """Where mlx computes: `cpu` or `gpu`."""
    return "cpu" if mx.default_device() == mx.Device(mx.cpu) else "gpu"
