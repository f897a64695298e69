"""How far each share of the streams was published to each broker, and which relay has it."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE relay_share (
        broker text NOT NULL CONSTRAINT relay_share_broker CHECK (broker IN ('mqtt', 'kafka')),
        share smallint NOT NULL CONSTRAINT relay_share_share CHECK (share BETWEEN 0 AND 7),
        transaction_id xid8 NOT NULL DEFAULT '0',
        outbox_position bigint NOT NULL DEFAULT 0,
        holder text,
        held_until timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (broker, share)
    )
    """,
    "GRANT SELECT, INSERT, UPDATE, DELETE ON relay_share TO depotgrid_service",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TABLE relay_share")
