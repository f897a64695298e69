"""The codes that a refused command, or an action of a packet, may have; other programs act on them."""

from __future__ import annotations

from site_registry.documents import DOCUMENTS

_ENVELOPE = (
    "CLOCK_SKEW",
    "DEVICE_DISABLED",
    "DEVICE_NOT_OWNED",
    "IDENTITY_MISMATCH",
    "INVALID_PACKET",
    "INVALID_TIMESTAMP",
    "MALFORMED_JSON",
    "NOT_STORABLE",
    "PACKET_TOO_LARGE",
    "UNKNOWN_DEVICE",
    "UNSUPPORTED_SCHEMA_VERSION",
)
"""Why a packet as a whole is refused."""
_OUTCOMES = (
    "AMBIGUOUS_CIRCUIT",
    "AMBIGUOUS_CIRCUIT_POWER_SOURCE",
    "AMBIGUOUS_DEPOT_BATTERY",
    "CAPABILITY_NOT_BOUND",
    "CAPABILITY_SOURCE_CONFLICT",
    "CIRCUIT_NOT_FOUND",
    "DUPLICATE_MEASURAND",
    "INVALID_POWER_SOURCE",
    "INVALID_TIMESTAMP",
    "INVALID_UNIT",
    "INVALID_VALUE",
    "MICROGRID_NOT_FOUND",
    "NO_POWER_SOURCE",
    "VALUE_NOT_APPLICABLE",
)
"""Why an action of a packet was not done."""
_THINGS = ("depot", *DOCUMENTS)
_WITH_USERS = ("depot", "circuit", "charge_point", "power_source", "gateway")

CODES: tuple[str, ...] = tuple(
    sorted(
        {
            *_ENVELOPE,
            *_OUTCOMES,
            *(f"{kind.upper()}_NOT_FOUND" for kind in _THINGS),
            *(f"{kind.upper()}_IN_USE" for kind in _WITH_USERS),
            "ALREADY_EXISTS",
            "BODY_DROPPED",
            "BODY_TRUNCATED",
            "CAPABILITY_NOT_BOUND",
            "CIRCUIT_CYCLE",
            "CLOCK_SKEW",
            "CONTENT_TOO_LARGE",
            "CONTROLLER_BINDING_NOT_FOUND",
            "DATABASE_UNAVAILABLE",
            "DEVICE_DISABLED",
            "DEVICE_NOT_OWNED",
            "DEVICE_OF_OTHER_DEPOT",
            "EMPTY_BINDING",
            "FORBIDDEN",
            "IDEMPOTENCY_KEY_REUSED",
            "IDENTITY_PROVIDER_UNAVAILABLE",
            "INTERNAL_ERROR",
            "INVALID_STALE_AFTER",
            "INVALID_TIMESTAMP",
            "MEASURAND_NOT_SUPPORTED",
            "METHOD_NOT_ALLOWED",
            "MISSING_FIELD",
            "MODEL_OUTPUT_WITHOUT_MODEL",
            "NOT_FOUND",
            "NO_TOP_LEVEL_CIRCUIT",
            "SERVICE_UNAVAILABLE",
            "TOKEN_EXPIRED",
            "TOKEN_INVALID",
            "PRECONDITION_REQUIRED",
            "REPLAY_JOB_NOT_FOUND",
            "UNAUTHENTICATED",
            "UNKNOWN_FIELD",
            "UNKNOWN_NODE",
            "UNKNOWN_PROFILE",
            "UNSUPPORTED_CAPABILITY",
            "VALIDATION_FAILED",
            "VERSION_CONFLICT",
            "VALUE_NOT_APPLICABLE",
        }
    )
)
