"""What commands leave behind: who did what, the answers that a repeated key gets, and what devices said that they measure."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE audit (
        audit_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        at timestamptz NOT NULL,
        principal text NOT NULL,
        method text NOT NULL,
        path text NOT NULL,
        status integer NOT NULL,
        code text,
        idempotency_key text,
        request bytea
    )
    """,
    "CREATE INDEX audit_at ON audit (at)",
    """
    CREATE TABLE idempotency_key (
        principal text NOT NULL,
        path text NOT NULL,
        key text NOT NULL,
        created_at timestamptz NOT NULL,
        request_sha256 bytea NOT NULL,
        status integer NOT NULL,
        headers jsonb NOT NULL,
        body bytea NOT NULL,
        PRIMARY KEY (principal, path, key)
    )
    """,
    "CREATE INDEX idempotency_key_created ON idempotency_key (created_at)",
    """
    CREATE TABLE device_capability (
        device_id text PRIMARY KEY REFERENCES device ON DELETE CASCADE,
        measurands jsonb NOT NULL,
        reported_at timestamptz NOT NULL
    )
    """,
    "GRANT SELECT, INSERT ON audit TO depotgrid_service",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON idempotency_key, device_capability TO depotgrid_service",
    "ALTER TABLE sensor_action DROP CONSTRAINT sensor_action_origin",
    # The older code writes two of the three, and reads the third as it reads what a person made.
    """
    ALTER TABLE sensor_action ADD CONSTRAINT sensor_action_origin CHECK (origin IN ('PROFILE', 'REPORTED', 'PERSON'))
    """,
)
UNDO = (
    "UPDATE sensor_action SET origin = 'PERSON' WHERE origin = 'REPORTED'",
    "ALTER TABLE sensor_action DROP CONSTRAINT sensor_action_origin",
    "ALTER TABLE sensor_action ADD CONSTRAINT sensor_action_origin CHECK (origin IN ('PROFILE', 'PERSON'))",
    "DROP TABLE device_capability",
    "DROP TABLE idempotency_key",
    "DROP TABLE audit",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    for statement in UNDO:
        op.execute(statement)
