"""The tables of what happened, as `depotgrid db check` compares them with the database.

`event_store` is append-only: grants and a trigger refuse updates and deletes. `transaction_id` and `global_position` together
give the order in which readers may follow (see `follow.py`).
"""

from __future__ import annotations

from typing import cast

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.types import UserDefinedType

metadata = sa.MetaData()


class Xid8(UserDefinedType[str]):
    """PostgreSQL's 64-bit transaction id."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        return "xid8"


# So that reading the tables of a database knows the type, too.
cast("dict[str, object]", pg.dialect.ischema_names)["xid8"] = Xid8

_now = sa.text("now()")
_current_transaction = sa.text("pg_current_xact_id()")

event_store = sa.Table(
    "event_store",
    metadata,
    sa.Column("global_position", sa.BigInteger, sa.Identity(always=True), nullable=False),
    sa.Column("transaction_id", Xid8, nullable=False, server_default=_current_transaction),
    sa.Column("event_id", pg.UUID, nullable=False, primary_key=True),
    sa.Column("stream_id", sa.Text, nullable=False),
    sa.Column("event_type", sa.Text, nullable=False),
    sa.Column("schema_version", sa.SmallInteger, nullable=False),
    sa.Column("depot_id", sa.Text, nullable=False),
    sa.Column("microgrid_id", pg.UUID),
    sa.Column("subject", sa.Text),
    sa.Column("history_only", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("observed_at", sa.DateTime(timezone=True), nullable=False, primary_key=True),
    sa.Column("sent_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False, server_default=_now),
    sa.Column("source_event_ref", sa.Text),
    sa.Column("payload", pg.JSONB, nullable=False),
    sa.Column("metadata", pg.JSONB, nullable=False),
    sa.Index("event_store_follow", "transaction_id", "global_position", unique=True),
    sa.Index("event_store_latest", "subject", "history_only", "observed_at", "sent_at", "event_id"),
    sa.Index("event_store_microgrid", "microgrid_id", "transaction_id", "global_position"),
)

event_outbox = sa.Table(
    "event_outbox",
    metadata,
    sa.Column("transaction_id", Xid8, primary_key=True, server_default=_current_transaction),
    sa.Column("outbox_position", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("stream_id", sa.Text, nullable=False),
    sa.Column("event_position", sa.BigInteger),
    sa.Column("dead_letter_id", pg.UUID),
)

dead_letter = sa.Table(
    "dead_letter",
    metadata,
    sa.Column("dead_letter_id", pg.UUID, primary_key=True),
    sa.Column("first_failed_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("last_failed_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("reason_code", sa.Text, nullable=False),
    sa.Column("stage", sa.Text, nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("topic", sa.Text, nullable=False),
    sa.Column("partition", sa.Integer),
    sa.Column("offset", sa.BigInteger),
    sa.Column("key", sa.LargeBinary),
    sa.Column("headers", pg.JSONB, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("body_length", sa.Integer, nullable=False),
    sa.Column("body_sha256", sa.Text, nullable=False),
    sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("depot_id", sa.Text),
    sa.Column("gateway_id", sa.Text),
    sa.Column("device_id", sa.Text),
    sa.Column("failed_actions", pg.JSONB, nullable=False),
    sa.Column("trace_id", sa.Text),
    sa.Column("replayed_by", sa.Text),
    sa.Column("replayed_at", sa.DateTime(timezone=True)),
    sa.Column("discarded_by", sa.Text),
    sa.Column("discarded_at", sa.DateTime(timezone=True)),
    sa.Column("discarded_why", sa.Text),
    sa.Column("body_dropped_at", sa.DateTime(timezone=True)),
    sa.CheckConstraint("status IN ('PENDING', 'REPLAYED', 'DISCARDED')", name="dead_letter_status"),
    sa.CheckConstraint("stage IN ('DECODE', 'VALIDATE', 'AUTHORISE', 'ROUTE', 'APPLY')", name="dead_letter_stage"),
    sa.Index("dead_letter_newest", "last_failed_at", "dead_letter_id"),
    sa.Index("dead_letter_depot", "depot_id", "status"),
    sa.Index("dead_letter_device", "device_id", "last_failed_at", "dead_letter_id"),
    sa.Index("dead_letter_pending", "received_at", "dead_letter_id", postgresql_where=sa.text("status = 'PENDING'")),
    sa.Index(
        "dead_letter_cause",
        "reason_code",
        "gateway_id",
        "received_at",
        "dead_letter_id",
        postgresql_where=sa.text("body_dropped_at IS NULL"),
    ),
)

replay_job = sa.Table(
    "replay_job",
    metadata,
    sa.Column("job_id", pg.UUID, primary_key=True),
    sa.Column("requested_by", sa.Text, nullable=False),
    sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("wanted", pg.JSONB, nullable=False),
    sa.Column("most_letters", sa.Integer),
    sa.Column("rate_per_s", sa.Double),
    sa.Column("dry_run", sa.Boolean, nullable=False),
    sa.Column("of_depots", pg.ARRAY(sa.Text)),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("total", sa.Integer, nullable=False),
    sa.Column("done", sa.Integer, nullable=False, server_default="0"),
    sa.Column("outcomes", pg.JSONB, nullable=False, server_default="{}"),
    sa.Column("failure", sa.Text),
    sa.Column("cancel_requested", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("after_received_at", sa.DateTime(timezone=True)),
    sa.Column("after_id", pg.UUID),
    sa.Column("holder", sa.Text),
    sa.Column("held_until", sa.DateTime(timezone=True)),
    sa.Column("finished_at", sa.DateTime(timezone=True)),
    sa.CheckConstraint("status IN ('RUNNING', 'DONE', 'CANCELLED', 'FAILED')", name="replay_job_status"),
    sa.Index("replay_job_running", "requested_at", postgresql_where=sa.text("status = 'RUNNING'")),
)

replay_job_letter = sa.Table(
    "replay_job_letter",
    metadata,
    sa.Column("job_id", pg.UUID, sa.ForeignKey("replay_job.job_id", ondelete="CASCADE"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("report", pg.JSONB, nullable=False),
)

remediation = sa.Table(
    "remediation",
    metadata,
    sa.Column("device_id", sa.Text, primary_key=True),
    sa.Column("measurand", sa.Text, primary_key=True),
    sa.Column("action", sa.Text, primary_key=True),
    sa.Column("code", sa.Text, primary_key=True),
    sa.Column("sensor_action_id", sa.Text, primary_key=True),
    sa.Column("depot_id", sa.Text, nullable=False),
    sa.Column("candidates", pg.JSONB, nullable=False),
    sa.Column("first_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("last_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("count", sa.BigInteger, nullable=False),
    sa.Index("remediation_depot", "depot_id"),
)

controller_health = sa.Table(
    "controller_health",
    metadata,
    sa.Column("sensor_action_id", pg.UUID, primary_key=True),
    sa.Column("device_id", sa.Text, nullable=False),
    sa.Column("gateway_id", sa.Text, nullable=False),
    sa.Column("depot_id", sa.Text, nullable=False),
    sa.Column("microgrid_id", pg.UUID),
    sa.Column("circuit_id", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("heartbeat_at", sa.DateTime(timezone=True)),
    sa.Column("lost_from", sa.DateTime(timezone=True)),
    sa.Column("deadline_at", sa.DateTime(timezone=True)),
    sa.Column("available_kw", sa.Double),
    sa.Column("available_at", sa.DateTime(timezone=True)),
    sa.Column("fail_safe_kw", sa.Double),
    sa.Column("fail_safe_at", sa.DateTime(timezone=True)),
    sa.Column("capacity_at", sa.DateTime(timezone=True)),
    sa.CheckConstraint("status IN ('NEVER_REPORTED', 'OK', 'LOST')", name="controller_health_status"),
    sa.Index("controller_health_deadline", "deadline_at", postgresql_where=sa.text("deadline_at IS NOT NULL")),
    sa.Index("controller_health_circuit", "circuit_id"),
)

lease = sa.Table(
    "lease",
    metadata,
    sa.Column("lease_name", sa.Text, primary_key=True),
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
)

waiting_gateway = sa.Table(
    "waiting_gateway",
    metadata,
    sa.Column("lease_name", sa.Text, primary_key=True),
    sa.Column("gateway_id", sa.Text, primary_key=True),
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("since", sa.DateTime(timezone=True), nullable=False, server_default=_now),
    sa.Column("reserved_place", sa.BigInteger, nullable=False),
)

relay_share = sa.Table(
    "relay_share",
    metadata,
    sa.Column("broker", sa.Text, primary_key=True),
    sa.Column("share", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("transaction_id", Xid8, nullable=False, server_default=sa.text("'0'")),
    sa.Column("outbox_position", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    sa.Column("holder", sa.Text),
    sa.Column("held_until", sa.DateTime(timezone=True), nullable=False, server_default=_now),
    sa.CheckConstraint("broker IN ('mqtt', 'kafka')", name="relay_share_broker"),
    sa.CheckConstraint("share BETWEEN 0 AND 7", name="relay_share_share"),
)
