"""The tables of what is configured, as `depotgrid db check` compares them with the database.

Triggers on them write `site_change`, which is the change feed; they and the constraints stand in the migrations.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from event_store.tables import Xid8

metadata = sa.MetaData()


_now = sa.text("now()")

depot = sa.Table(
    "depot",
    metadata,
    sa.Column("depot_id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("timezone", sa.Text, nullable=False),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=_now),
    sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False, server_default=_now),
)

circuit = sa.Table(
    "circuit",
    metadata,
    sa.Column("circuit_id", sa.Text, primary_key=True),
    sa.Column("depot_id", sa.Text, sa.ForeignKey("depot.depot_id"), nullable=False),
    sa.Column("parent_circuit_id", sa.Text, sa.ForeignKey("circuit.circuit_id", deferrable=True, initially="DEFERRED")),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("default_capacity_kw", sa.Double),
    sa.Column("safe_capacity_kw", sa.Double),
    sa.Column("rating_kw", sa.Double),
    sa.Index("circuit_depot", "depot_id"),
    sa.Index("circuit_parent", "parent_circuit_id"),
)

charge_point = sa.Table(
    "charge_point",
    metadata,
    sa.Column("charge_point_id", sa.Text, primary_key=True),
    sa.Column("circuit_id", sa.Text, sa.ForeignKey("circuit.circuit_id"), nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("max_kw", sa.Double, nullable=False),
    sa.Index("charge_point_circuit", "circuit_id"),
)

connector = sa.Table(
    "connector",
    metadata,
    sa.Column("connector_id", sa.Text, primary_key=True),
    sa.Column("charge_point_id", sa.Text, sa.ForeignKey("charge_point.charge_point_id"), nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("max_kw", sa.Double),
    sa.Index("connector_charge_point", "charge_point_id"),
)

power_source = sa.Table(
    "power_source",
    metadata,
    sa.Column("power_source_id", sa.Text, primary_key=True),
    sa.Column("depot_id", sa.Text, sa.ForeignKey("depot.depot_id"), nullable=False),
    sa.Column("circuit_id", sa.Text, sa.ForeignKey("circuit.circuit_id")),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("rated_kw", sa.Double),
    sa.Index("power_source_depot", "depot_id"),
    sa.Index("power_source_circuit", "circuit_id"),
)

gateway = sa.Table(
    "gateway",
    metadata,
    sa.Column("gateway_id", sa.Text, primary_key=True),
    sa.Column("depot_id", sa.Text, sa.ForeignKey("depot.depot_id"), nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("site_model_name", sa.Text),
    sa.Column("model_outputs", pg.JSONB, nullable=False, server_default=sa.text("'{}'")),
    sa.Column("output_translation", pg.JSONB, nullable=False, server_default=sa.text("'{}'")),
    sa.Index("gateway_depot", "depot_id"),
)

device = sa.Table(
    "device",
    metadata,
    sa.Column("device_id", sa.Text, primary_key=True),
    sa.Column("depot_id", sa.Text, sa.ForeignKey("depot.depot_id"), nullable=False),
    sa.Column("gateway_id", sa.Text, sa.ForeignKey("gateway.gateway_id"), nullable=False),
    sa.Column("circuit_id", sa.Text, sa.ForeignKey("circuit.circuit_id")),
    sa.Column("profile", sa.Text),
    sa.Column("enabled", sa.Boolean, nullable=False, server_default=sa.true()),
    sa.Index("device_depot", "depot_id"),
    sa.Index("device_gateway", "gateway_id"),
    sa.Index("device_circuit", "circuit_id"),
)

sensor_action = sa.Table(
    "sensor_action",
    metadata,
    sa.Column("sensor_action_id", pg.UUID, primary_key=True),
    sa.Column("depot_id", sa.Text, sa.ForeignKey("depot.depot_id"), nullable=False),
    sa.Column("device_id", sa.Text, sa.ForeignKey("device.device_id"), nullable=False),
    sa.Column("measurand", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("enabled", sa.Boolean, nullable=False, server_default=sa.true()),
    sa.Column("capability", sa.Text),
    sa.Column("node_id", pg.UUID),
    sa.Column("power_source_id", sa.Text, sa.ForeignKey("power_source.power_source_id")),
    sa.Column("circuit_id", sa.Text, sa.ForeignKey("circuit.circuit_id")),
    sa.Column("heartbeat_timeout_s", sa.Double),
    sa.Column("scale", sa.Double),
    sa.Column("origin", sa.Text, nullable=False, server_default=sa.text("'PERSON'")),
    sa.Index(
        "sensor_action_said_once",
        "device_id",
        "measurand",
        "action",
        "capability",
        "node_id",
        "power_source_id",
        "circuit_id",
        unique=True,
        postgresql_nulls_not_distinct=True,
    ),
    sa.Index("sensor_action_depot", "depot_id"),
    sa.Index("sensor_action_device", "device_id"),
    sa.Index("sensor_action_power_source", "power_source_id", postgresql_where=sa.text("power_source_id IS NOT NULL")),
    sa.Index("sensor_action_circuit", "circuit_id", postgresql_where=sa.text("circuit_id IS NOT NULL")),
)

microgrid = sa.Table(
    "microgrid",
    metadata,
    sa.Column("microgrid_id", pg.UUID, primary_key=True),
    sa.Column("depot_id", sa.Text, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=_now),
    sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False, server_default=_now),
    sa.Index("microgrid_one_live_per_depot", "depot_id", unique=True, postgresql_where=sa.text("status <> 'RETIRED'")),
)

microgrid_node = sa.Table(
    "microgrid_node",
    metadata,
    sa.Column("node_id", pg.UUID, primary_key=True),
    sa.Column("microgrid_id", pg.UUID, sa.ForeignKey("microgrid.microgrid_id"), nullable=False),
    sa.Column("kind", sa.Text, nullable=False, server_default=sa.text("'GRID_CONNECTION'")),
    sa.Column("source_circuit_id", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("position", sa.Integer, nullable=False),
    sa.UniqueConstraint("microgrid_id", "source_circuit_id", name="microgrid_node_circuit"),
)

capability_control_point = sa.Table(
    "capability_control_point",
    metadata,
    sa.Column("control_point_id", pg.UUID, primary_key=True),
    sa.Column("microgrid_id", pg.UUID, sa.ForeignKey("microgrid.microgrid_id"), nullable=False),
    sa.Column("node_id", pg.UUID, sa.ForeignKey("microgrid_node.node_id")),
    sa.Column("capability", sa.Text, nullable=False),
    sa.Column("device_id", sa.Text, sa.ForeignKey("device.device_id"), nullable=False),
    sa.Column("measurand", sa.Text, nullable=False),
    sa.Column("stale_after_s", sa.Double, nullable=False),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("controller_binding_id", pg.UUID, nullable=False, server_default=sa.text("gen_random_uuid()")),
    sa.Column("binding_version", sa.BigInteger, nullable=False, server_default=sa.text("1")),
    sa.Index(
        "capability_one_active_source",
        "microgrid_id",
        "node_id",
        "capability",
        unique=True,
        postgresql_where=sa.text("enabled"),
        postgresql_nulls_not_distinct=True,
    ),
    sa.Index(
        "capability_one_point_per_device",
        "microgrid_id",
        "node_id",
        "capability",
        "device_id",
        unique=True,
        postgresql_nulls_not_distinct=True,
    ),
    sa.Index("capability_control_point_device", "device_id"),
    sa.Index("capability_control_point_binding", "controller_binding_id"),
)

site_change = sa.Table(
    "site_change",
    metadata,
    sa.Column("transaction_id", Xid8, primary_key=True, server_default=sa.text("pg_current_xact_id()")),
    sa.Column("change_id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("depot_id", sa.Text, nullable=False),
    sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False, server_default=_now),
)

audit = sa.Table(
    "audit",
    metadata,
    sa.Column("audit_id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("principal", sa.Text, nullable=False),
    sa.Column("method", sa.Text, nullable=False),
    sa.Column("path", sa.Text, nullable=False),
    sa.Column("status", sa.Integer, nullable=False),
    sa.Column("code", sa.Text),
    sa.Column("idempotency_key", sa.Text),
    sa.Column("request", sa.LargeBinary),
    sa.Index("audit_at", "at"),
)

idempotency_key = sa.Table(
    "idempotency_key",
    metadata,
    sa.Column("principal", sa.Text, primary_key=True),
    sa.Column("path", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("request_sha256", sa.LargeBinary, nullable=False),
    sa.Column("status", sa.Integer, nullable=False),
    sa.Column("headers", pg.JSONB, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Index("idempotency_key_created", "created_at"),
)

device_capability = sa.Table(
    "device_capability",
    metadata,
    sa.Column("device_id", sa.Text, sa.ForeignKey("device.device_id", ondelete="CASCADE"), primary_key=True),
    sa.Column("measurands", pg.JSONB, nullable=False),
    sa.Column("reported_at", sa.DateTime(timezone=True), nullable=False),
)
