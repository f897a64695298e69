"""Which controller binding a control point belongs to, and the version of that."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

STATEMENTS = (
    # The older code names neither column: each control point that it makes is a binding of its own, as old as can be.
    """
    ALTER TABLE capability_control_point
        ADD COLUMN controller_binding_id uuid NOT NULL DEFAULT gen_random_uuid(),
        ADD COLUMN binding_version bigint NOT NULL DEFAULT 1
            CONSTRAINT capability_control_point_binding_version CHECK (binding_version > 0)
    """,
    # What a device had alike for one scope becomes one binding, under the id of its first control point.
    """
    UPDATE capability_control_point p SET controller_binding_id = alike.first_id
    FROM (
        SELECT microgrid_id, node_id, device_id, enabled, stale_after_s,
               (array_agg(control_point_id ORDER BY control_point_id))[1] AS first_id
        FROM capability_control_point GROUP BY microgrid_id, node_id, device_id, enabled, stale_after_s
    ) alike
    WHERE p.microgrid_id = alike.microgrid_id AND p.node_id IS NOT DISTINCT FROM alike.node_id
      AND p.device_id = alike.device_id AND p.enabled = alike.enabled AND p.stale_after_s = alike.stale_after_s
    """,
    "CREATE INDEX capability_control_point_binding ON capability_control_point (controller_binding_id)",
)
UNDO = (
    "DROP INDEX capability_control_point_binding",
    "ALTER TABLE capability_control_point DROP COLUMN binding_version, DROP COLUMN controller_binding_id",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    for statement in UNDO:
        op.execute(statement)
