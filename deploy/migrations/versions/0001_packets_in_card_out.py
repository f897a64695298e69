"""The site model, the microgrid, the event store with outbox and dead letters, and who may do what in them."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SITE_MODEL = """
CREATE TABLE depot (
    depot_id text PRIMARY KEY,
    name text NOT NULL,
    timezone text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE circuit (
    circuit_id text PRIMARY KEY,
    depot_id text NOT NULL REFERENCES depot,
    parent_circuit_id text REFERENCES circuit DEFERRABLE INITIALLY DEFERRED,
    name text NOT NULL,
    position integer NOT NULL,
    default_capacity_kw double precision CHECK (default_capacity_kw >= 0),
    safe_capacity_kw double precision CHECK (safe_capacity_kw >= 0),
    rating_kw double precision CHECK (rating_kw >= 0)
);
CREATE INDEX circuit_depot ON circuit (depot_id);
CREATE INDEX circuit_parent ON circuit (parent_circuit_id);

CREATE TABLE charge_point (
    charge_point_id text PRIMARY KEY,
    circuit_id text NOT NULL REFERENCES circuit,
    name text NOT NULL,
    max_kw double precision NOT NULL CHECK (max_kw >= 0)
);
CREATE INDEX charge_point_circuit ON charge_point (circuit_id);

CREATE TABLE connector (
    connector_id text PRIMARY KEY,
    charge_point_id text NOT NULL REFERENCES charge_point,
    number integer NOT NULL,
    max_kw double precision CHECK (max_kw >= 0)
);
CREATE INDEX connector_charge_point ON connector (charge_point_id);

CREATE TABLE power_source (
    power_source_id text PRIMARY KEY,
    depot_id text NOT NULL REFERENCES depot,
    circuit_id text REFERENCES circuit,
    kind text NOT NULL CONSTRAINT power_source_kind CHECK (kind IN ('GRID', 'BATTERY', 'SOLAR', 'GENERATOR')),
    name text NOT NULL,
    rated_kw double precision CHECK (rated_kw >= 0)
);
CREATE INDEX power_source_depot ON power_source (depot_id);
CREATE INDEX power_source_circuit ON power_source (circuit_id);

CREATE TABLE gateway (
    gateway_id text PRIMARY KEY,
    depot_id text NOT NULL REFERENCES depot,
    name text NOT NULL,
    site_model_name text,
    model_outputs jsonb NOT NULL DEFAULT '{}',
    output_translation jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX gateway_depot ON gateway (depot_id);

CREATE TABLE device (
    device_id text PRIMARY KEY,
    depot_id text NOT NULL REFERENCES depot,
    gateway_id text NOT NULL REFERENCES gateway,
    circuit_id text REFERENCES circuit,
    profile text,
    enabled boolean NOT NULL DEFAULT true
);
CREATE INDEX device_depot ON device (depot_id);
CREATE INDEX device_gateway ON device (gateway_id);
CREATE INDEX device_circuit ON device (circuit_id);

CREATE TABLE sensor_action (
    sensor_action_id uuid PRIMARY KEY,
    depot_id text NOT NULL REFERENCES depot,
    device_id text NOT NULL REFERENCES device,
    measurand text NOT NULL,
    action text NOT NULL CONSTRAINT sensor_action_action CHECK (action IN (
        'UPDATE_POWER_SOURCE_STATE', 'UPDATE_POWER_SOURCE_LOAD', 'UPDATE_MICROGRID_STATE', 'UPDATE_CIRCUIT_CAPACITY',
        'RECORD_MEASUREMENT')),
    enabled boolean NOT NULL DEFAULT true,
    capability text CONSTRAINT sensor_action_capability CHECK (capability IN ('PEAK_SHAVING', 'DER')),
    node_id uuid,
    power_source_id text REFERENCES power_source,
    circuit_id text REFERENCES circuit,
    heartbeat_timeout_s double precision CHECK (heartbeat_timeout_s > 0),
    scale double precision,
    origin text NOT NULL DEFAULT 'PERSON' CONSTRAINT sensor_action_origin CHECK (origin IN ('PROFILE', 'PERSON')),
    CONSTRAINT sensor_action_names_its_capability CHECK ((action = 'UPDATE_MICROGRID_STATE') = (capability IS NOT NULL))
);
CREATE INDEX sensor_action_depot ON sensor_action (depot_id);
CREATE INDEX sensor_action_device ON sensor_action (device_id);
CREATE INDEX sensor_action_power_source ON sensor_action (power_source_id) WHERE power_source_id IS NOT NULL;
CREATE INDEX sensor_action_circuit ON sensor_action (circuit_id) WHERE circuit_id IS NOT NULL;
"""

MICROGRID = """
-- A microgrid outlives its depot as RETIRED, so depot_id is no foreign key.
CREATE TABLE microgrid (
    microgrid_id uuid PRIMARY KEY,
    depot_id text NOT NULL,
    version bigint NOT NULL,
    status text NOT NULL CONSTRAINT microgrid_status CHECK (status IN ('ACTIVE', 'NO_GRID_CONNECTION', 'RETIRED')),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX microgrid_one_live_per_depot ON microgrid (depot_id) WHERE status <> 'RETIRED';

CREATE TABLE microgrid_node (
    node_id uuid PRIMARY KEY,
    microgrid_id uuid NOT NULL REFERENCES microgrid,
    kind text NOT NULL DEFAULT 'GRID_CONNECTION' CONSTRAINT microgrid_node_kind CHECK (kind = 'GRID_CONNECTION'),
    source_circuit_id text NOT NULL,
    name text NOT NULL,
    position integer NOT NULL,
    CONSTRAINT microgrid_node_circuit UNIQUE (microgrid_id, source_circuit_id)
);

CREATE TABLE capability_control_point (
    control_point_id uuid PRIMARY KEY,
    microgrid_id uuid NOT NULL REFERENCES microgrid,
    node_id uuid REFERENCES microgrid_node,
    capability text NOT NULL CONSTRAINT capability_control_point_capability CHECK (capability IN ('PEAK_SHAVING', 'DER')),
    device_id text NOT NULL REFERENCES device,
    measurand text NOT NULL,
    stale_after_s double precision NOT NULL CHECK (stale_after_s BETWEEN 1 AND 86400),
    enabled boolean NOT NULL
);
CREATE UNIQUE INDEX capability_one_active_source
    ON capability_control_point (microgrid_id, node_id, capability) NULLS NOT DISTINCT WHERE enabled;
CREATE UNIQUE INDEX capability_one_point_per_device
    ON capability_control_point (microgrid_id, node_id, capability, device_id) NULLS NOT DISTINCT;
CREATE INDEX capability_control_point_device ON capability_control_point (device_id);
"""

# What changed in which depot. Triggers write it, so that an edit by hand is noticed as well as one by the command API.
CHANGE_FEED = """
CREATE TABLE site_change (
    transaction_id xid8 NOT NULL DEFAULT pg_current_xact_id(),
    change_id bigint GENERATED ALWAYS AS IDENTITY,
    depot_id text NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (transaction_id, change_id)
);

CREATE FUNCTION note_site_change() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_TABLE_NAME = 'microgrid_node' OR TG_TABLE_NAME = 'capability_control_point' THEN
        INSERT INTO site_change (depot_id)
        SELECT DISTINCT m.depot_id FROM changed c JOIN microgrid m USING (microgrid_id);
    ELSE
        INSERT INTO site_change (depot_id) SELECT DISTINCT c.depot_id FROM changed c;
    END IF;
    PERFORM pg_notify('depotgrid_site_change', '');
    RETURN NULL;
END $$;
"""
WATCHED = (
    "depot",
    "circuit",
    "power_source",
    "gateway",
    "device",
    "sensor_action",
    "microgrid",
    "microgrid_node",
    "capability_control_point",
)

EVENT_STORE = """
CREATE TABLE event_store (
    global_position bigint GENERATED ALWAYS AS IDENTITY NOT NULL,
    transaction_id xid8 NOT NULL DEFAULT pg_current_xact_id(),
    event_id uuid NOT NULL,
    stream_id text NOT NULL,
    event_type text NOT NULL,
    schema_version smallint NOT NULL,
    depot_id text NOT NULL,
    microgrid_id uuid,
    subject text,
    history_only boolean NOT NULL DEFAULT false,
    observed_at timestamptz NOT NULL,
    sent_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    source_event_ref text,
    payload jsonb NOT NULL,
    metadata jsonb NOT NULL,
    PRIMARY KEY (observed_at, event_id)
);
CREATE UNIQUE INDEX event_store_follow ON event_store (transaction_id, global_position);
CREATE INDEX event_store_latest ON event_store (subject, history_only, observed_at, sent_at, event_id);
CREATE INDEX event_store_microgrid ON event_store (microgrid_id, transaction_id, global_position);

CREATE FUNCTION refuse_event_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'event_store is append-only: % is refused', TG_OP USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER event_store_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON event_store
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_event_change();

CREATE TABLE event_outbox (
    transaction_id xid8 NOT NULL DEFAULT pg_current_xact_id(),
    outbox_position bigint GENERATED ALWAYS AS IDENTITY,
    stream_id text NOT NULL,
    event_position bigint,
    dead_letter_id uuid,
    PRIMARY KEY (transaction_id, outbox_position)
);

CREATE TABLE dead_letter (
    dead_letter_id uuid PRIMARY KEY,
    first_failed_at timestamptz NOT NULL,
    last_failed_at timestamptz NOT NULL,
    attempts integer NOT NULL,
    status text NOT NULL CONSTRAINT dead_letter_status CHECK (status IN ('PENDING', 'REPLAYED', 'DISCARDED')),
    reason_code text NOT NULL,
    stage text NOT NULL
        CONSTRAINT dead_letter_stage CHECK (stage IN ('DECODE', 'VALIDATE', 'AUTHORISE', 'ROUTE', 'APPLY')),
    detail text NOT NULL,
    source text NOT NULL,
    topic text NOT NULL,
    partition integer,
    "offset" bigint,
    key bytea,
    headers jsonb NOT NULL,
    body bytea NOT NULL,
    body_length integer NOT NULL,
    body_sha256 text NOT NULL,
    received_at timestamptz NOT NULL,
    depot_id text,
    gateway_id text,
    device_id text,
    failed_actions jsonb NOT NULL,
    trace_id text,
    replayed_by text,
    replayed_at timestamptz
);
CREATE INDEX dead_letter_newest ON dead_letter (last_failed_at, dead_letter_id);
CREATE INDEX dead_letter_depot ON dead_letter (depot_id, status);

CREATE TABLE remediation (
    device_id text NOT NULL,
    measurand text NOT NULL,
    action text NOT NULL,
    code text NOT NULL,
    depot_id text NOT NULL,
    candidates jsonb NOT NULL,
    first_at timestamptz NOT NULL,
    last_at timestamptz NOT NULL,
    count bigint NOT NULL,
    PRIMARY KEY (device_id, measurand, action, code)
);
CREATE INDEX remediation_depot ON remediation (depot_id);

CREATE TABLE controller_health (
    sensor_action_id uuid PRIMARY KEY,
    device_id text NOT NULL,
    gateway_id text NOT NULL,
    depot_id text NOT NULL,
    microgrid_id uuid,
    circuit_id text NOT NULL,
    status text NOT NULL CONSTRAINT controller_health_status CHECK (status IN ('NEVER_REPORTED', 'OK', 'LOST')),
    heartbeat_at timestamptz,
    lost_from timestamptz,
    deadline_at timestamptz,
    available_kw double precision,
    available_at timestamptz,
    fail_safe_kw double precision,
    fail_safe_at timestamptz,
    capacity_at timestamptz
);
CREATE INDEX controller_health_deadline ON controller_health (deadline_at) WHERE deadline_at IS NOT NULL;
CREATE INDEX controller_health_circuit ON controller_health (circuit_id);

CREATE TABLE lease (
    lease_name text PRIMARY KEY,
    holder text NOT NULL,
    expires_at timestamptz NOT NULL
);
"""

# Roles belong to the whole cluster: another database may have made this one already, or be making it now.
ROLE = """
DO $$
BEGIN
    CREATE ROLE depotgrid_service NOLOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
END $$;
"""
GRANTS = """
GRANT USAGE ON SCHEMA public TO depotgrid_service;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO depotgrid_service;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO depotgrid_service;
REVOKE UPDATE, DELETE, TRUNCATE ON event_store FROM depotgrid_service;
REVOKE INSERT, UPDATE, DELETE ON alembic_version FROM depotgrid_service;
"""

TABLES = (
    "lease",
    "controller_health",
    "remediation",
    "dead_letter",
    "event_outbox",
    "event_store",
    "site_change",
    "capability_control_point",
    "microgrid_node",
    "microgrid",
    "sensor_action",
    "device",
    "gateway",
    "power_source",
    "connector",
    "charge_point",
    "circuit",
    "depot",
)


def upgrade() -> None:
    for script in (SITE_MODEL, MICROGRID, CHANGE_FEED, EVENT_STORE, ROLE):
        _run(script)
    for table in WATCHED:
        for operation, rows in (("INSERT", "NEW"), ("UPDATE", "NEW"), ("DELETE", "OLD")):
            op.execute(
                f"CREATE TRIGGER {table}_{operation.lower()}_noted AFTER {operation} ON {table} "
                f"REFERENCING {rows} TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION note_site_change()"
            )
    _run(GRANTS)


def downgrade() -> None:
    for table in TABLES:
        op.execute(f"DROP TABLE {table}")
    op.execute("DROP FUNCTION note_site_change()")
    op.execute("DROP FUNCTION refuse_event_change()")
    # The role stays: it belongs to the cluster, and other databases may use it.


def _run(script: str) -> None:
    """Run a script of statements one by one (the driver prepares each)."""
    statement: list[str] = []
    quoted = False
    for line in script.splitlines():
        if line.startswith("--"):
            continue
        statement.append(line)
        quoted ^= line.count("$$") % 2 == 1
        if not quoted and line.rstrip().endswith(";"):
            op.execute("\n".join(statement))
            statement = []
