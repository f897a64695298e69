"""Remember which gateways are above their limit, so that whoever takes an MQTT session over keeps their packets in order."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE waiting_gateway (
        lease_name text NOT NULL,
        gateway_id text NOT NULL,
        holder text NOT NULL,
        since timestamptz NOT NULL DEFAULT now(),
        reserved_place bigint NOT NULL,
        PRIMARY KEY (lease_name, gateway_id)
    )
    """,
    "GRANT SELECT, INSERT, UPDATE, DELETE ON waiting_gateway TO depotgrid_service",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TABLE waiting_gateway")
