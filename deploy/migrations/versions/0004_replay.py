"""What replaying dead letters needs: jobs, who discarded what and why, whose bytes were let go of, and ways to find all of it."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    ALTER TABLE dead_letter
        ADD COLUMN discarded_by text,
        ADD COLUMN discarded_at timestamptz,
        ADD COLUMN discarded_why text,
        ADD COLUMN body_dropped_at timestamptz
    """,
    "CREATE INDEX dead_letter_device ON dead_letter (device_id, last_failed_at, dead_letter_id)",
    "CREATE INDEX dead_letter_pending ON dead_letter (received_at, dead_letter_id) WHERE status = 'PENDING'",
    "CREATE INDEX dead_letter_cause ON dead_letter (reason_code, gateway_id, received_at, dead_letter_id) "
    "WHERE body_dropped_at IS NULL",
    """
    CREATE TABLE replay_job (
        job_id uuid PRIMARY KEY,
        requested_by text NOT NULL,
        requested_at timestamptz NOT NULL,
        wanted jsonb NOT NULL,
        most_letters integer,
        rate_per_s double precision,
        dry_run boolean NOT NULL,
        of_depots text[],
        status text NOT NULL CONSTRAINT replay_job_status CHECK (status IN ('RUNNING', 'DONE', 'CANCELLED', 'FAILED')),
        total integer NOT NULL,
        done integer NOT NULL DEFAULT 0,
        outcomes jsonb NOT NULL DEFAULT '{}',
        failure text,
        cancel_requested boolean NOT NULL DEFAULT false,
        after_received_at timestamptz,
        after_id uuid,
        holder text,
        held_until timestamptz,
        finished_at timestamptz
    )
    """,
    "CREATE INDEX replay_job_running ON replay_job (requested_at) WHERE status = 'RUNNING'",
    """
    CREATE TABLE replay_job_letter (
        job_id uuid NOT NULL REFERENCES replay_job ON DELETE CASCADE,
        number integer NOT NULL,
        report jsonb NOT NULL,
        PRIMARY KEY (job_id, number)
    )
    """,
    "GRANT SELECT, INSERT, UPDATE, DELETE ON replay_job, replay_job_letter TO depotgrid_service",
)
UNDO = (
    "DROP TABLE replay_job_letter",
    "DROP TABLE replay_job",
    "DROP INDEX dead_letter_cause",
    "DROP INDEX dead_letter_pending",
    "DROP INDEX dead_letter_device",
    """
    ALTER TABLE dead_letter
        DROP COLUMN discarded_by,
        DROP COLUMN discarded_at,
        DROP COLUMN discarded_why,
        DROP COLUMN body_dropped_at
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    for statement in UNDO:
        op.execute(statement)
