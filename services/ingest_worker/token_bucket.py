"""How much a gateway may send: a bucket that fills at a rate, up to a burst, and pays one token for each packet.

`take` pays only what is there; `charge` pays whatever the packet's fate costs and may leave a debt, which the rate pays back
before anything else. So over any span of `t` seconds `take` grants at most `burst + rate × t`, and what was charged counts towards
it. A bucket begins full: a gateway that was never heard of has been silent. A clock that goes back fills nothing.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GatewayLimit:
    """What each gateway may send: packets per second, and how many at once after a silence."""

    packets_per_s: float
    burst: float

    @staticmethod
    def of(packets_per_s: float, burst_s: float) -> GatewayLimit | None:
        """The limit with a burst of `burst_s` seconds' worth, at least one packet; None where the rate is 0: no limit."""
        return GatewayLimit(packets_per_s, max(1.0, packets_per_s * burst_s)) if packets_per_s > 0 else None


UNLIMITED = GatewayLimit(1e12, 1e12)


class TokenBucket:
    """One gateway's bucket. Times are seconds of one clock."""

    __slots__ = ("_at", "_limit", "_tokens")

    def __init__(self, limit: GatewayLimit, now: float) -> None:
        self._limit = limit
        self._tokens = limit.burst
        self._at = now

    def take(self, now: float) -> bool:
        """Pay for one packet, if there is a token."""
        self._fill(now)
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    def charge(self, packets: int, now: float) -> None:
        """Pay for packets that are taken in any case."""
        self._fill(now)
        self._tokens -= packets

    def is_full(self, now: float) -> bool:
        """Whether it is as if nothing had ever been paid."""
        self._fill(now)
        return self._tokens >= self._limit.burst

    def wait_s(self, now: float) -> float:
        """Seconds until there is a token; 0 when there is one."""
        self._fill(now)
        return max(0.0, (1.0 - self._tokens) / self._limit.packets_per_s)

    def _fill(self, now: float) -> None:
        if now > self._at:
            self._tokens = min(self._limit.burst, self._tokens + (now - self._at) * self._limit.packets_per_s)
            self._at = now
