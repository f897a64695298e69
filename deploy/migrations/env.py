"""How Alembic reaches the database: `site_operations.migrate` hands over a connection."""

from alembic import context

from event_store import tables as event_store_tables
from site_registry import tables as site_registry_tables

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=[event_store_tables.metadata, site_registry_tables.metadata],
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
