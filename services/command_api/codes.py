"""The codes that a refused command, or an action of a packet, may have; other programs act on them."""

from __future__ import annotations

from site_registry.documents import DOCUMENTS

_THINGS = ("depot", *DOCUMENTS)
_WITH_USERS = ("depot", "circuit", "charge_point", "power_source", "gateway")

CODES: tuple[str, ...] = tuple(
    sorted(
        {
            *(f"{kind.upper()}_NOT_FOUND" for kind in _THINGS),
            *(f"{kind.upper()}_IN_USE" for kind in _WITH_USERS),
            "ALREADY_EXISTS",
            "CAPABILITY_SOURCE_CONFLICT",
            "CIRCUIT_CYCLE",
            "CONTENT_TOO_LARGE",
            "DATABASE_UNAVAILABLE",
            "FORBIDDEN",
            "IDEMPOTENCY_KEY_REUSED",
            "INTERNAL_ERROR",
            "INVALID_POWER_SOURCE",
            "INVALID_STALE_AFTER",
            "INVALID_VALUE",
            "MALFORMED_JSON",
            "MEASURAND_NOT_SUPPORTED",
            "METHOD_NOT_ALLOWED",
            "MICROGRID_NOT_FOUND",
            "MISSING_FIELD",
            "MODEL_OUTPUT_WITHOUT_MODEL",
            "NOT_FOUND",
            "NOT_STORABLE",
            "NO_TOP_LEVEL_CIRCUIT",
            "UNAUTHENTICATED",
            "UNKNOWN_DEVICE",
            "UNKNOWN_FIELD",
            "UNKNOWN_NODE",
            "UNKNOWN_PROFILE",
            "UNSUPPORTED_CAPABILITY",
            "VALIDATION_FAILED",
        }
    )
)
