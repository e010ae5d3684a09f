"""The keys of each flag's arms for Prometheus: how many, how busy, how unlucky; never a key."""

import os
import secrets
from collections.abc import Iterator
from hashlib import blake2b, scrypt
from typing import Final, Self

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from engine.core.flags import FLAGS, FlagSet
from engine.core.key_account import CONTROL, TREATMENT, KeyAccount

#: Outcomes that count as errors.
_BAD: Final = frozenset({"failed", "cut"})

#: Sets the secret apart from others that may be made of the token one day.
_PURPOSE: Final = b"phase5 digests of keys"

_MINUTE: Final = 60


class KeyMetrics(Collector):
    """Owns an account for each flag.

    Args:
        secret: that digests are made with. Engines that share one name a key alike.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._accounts = {flag: KeyAccount() for flag in FLAGS}

    @classmethod
    def from_environment(cls) -> Self:
        """With a secret made from the admin token, which a fleet shares; else one of its own.

        A digest of a known key must not help to guess the token, so the way is made slow.
        """
        from engine.server.admin import TOKEN_VARIABLE  # which needs the engine, which needs us

        token = os.environ.get(TOKEN_VARIABLE, "").encode()
        secret = scrypt(token, salt=_PURPOSE, n=2**14, r=8, p=1) if token else secrets.token_bytes()
        return cls(secret)

    def ended(self, key: str, flags: FlagSet, outcome: str, wall: float) -> None:
        """Count a request of a key; `wall` is seconds since 1970."""
        text = key.encode(errors="surrogatepass")
        digest = int.from_bytes(blake2b(text, key=self._secret, digest_size=8).digest())
        for flag, account in self._accounts.items():
            account.ended(
                digest,
                TREATMENT if flag in flags else CONTROL,
                bad=outcome in _BAD,
                minute=int(wall) // _MINUTE,
            )

    def begin(self, flag: str, epoch: int) -> None:
        """Serve a flag at an epoch, the same as before or another."""
        self._accounts[flag].begin(epoch)

    def collect(self) -> Iterator[Metric]:
        """Two children for each flag, and of the third family one for each busy key."""
        names = ("flag", "arm")
        new = CounterMetricFamily("phase5_new_keys", "Keys first seen in the epoch", labels=names)
        squares = CounterMetricFamily(
            "phase5_bad_squares", "Sum over keys of a minute's errors squared", labels=names
        )
        busiest = CounterMetricFamily(
            "phase5_busiest_key_requests",
            "Requests of keys with over a tenth of an arm's, by digest",
            labels=(*names, "key"),
        )
        for flag, account in self._accounts.items():
            for arm, keys in account.arms.items():
                new.add_metric((flag, arm), round(keys.new))
                squares.add_metric((flag, arm), keys.unlucky.squares)
                for digest, requests in keys.busiest.items():
                    busiest.add_metric((flag, arm, f"{digest:016x}"), requests)
        yield new
        yield squares
        yield busiest
