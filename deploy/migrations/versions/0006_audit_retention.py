"""Let the services clear away old rows of audit, and none that is younger than a month."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

STATEMENTS = (
    # The services may not delete from audit: what they can clear away is what this function lets them.
    """
    CREATE FUNCTION prune_audit(older_than timestamptz, most integer) RETURNS bigint
    LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT AS $$
        WITH gone AS (
            DELETE FROM audit WHERE audit_id IN (
                SELECT audit_id FROM audit WHERE at < least(older_than, now() - interval '30 days')
                ORDER BY at LIMIT most FOR UPDATE SKIP LOCKED
            )
            RETURNING 1
        )
        SELECT count(*) FROM gone
    $$
    """,
    "REVOKE ALL ON FUNCTION prune_audit(timestamptz, integer) FROM PUBLIC",
    "GRANT EXECUTE ON FUNCTION prune_audit(timestamptz, integer) TO depotgrid_service",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP FUNCTION prune_audit(timestamptz, integer)")
