"""`depotgrid db`: bring the database to this version, and tell where the two differ."""

from __future__ import annotations

from cyclopts import App

from operator_cli.output import complain, say, show_json
from operator_cli.places import DEFAULT_DATA_DIR, AsJson, DatabaseUrl, DataDir, find_database
from site_operations.migrate import differences
from site_operations.migrate import migrate as run_migrations

app = App(name="db", help="Bring the database to this version, and compare the two.")


@app.command
def migrate(*, database_url: DatabaseUrl = None, data_dir: DataDir = DEFAULT_DATA_DIR) -> int:
    """Run the migrations that the database has not had yet."""
    say(f"the database is at revision {run_migrations(find_database(database_url, data_dir))}")
    return 0


@app.command
def check(*, database_url: DatabaseUrl = None, data_dir: DataDir = DEFAULT_DATA_DIR, as_json: AsJson = False) -> int:
    """Compare the database with what this version expects; status 1 when they differ."""
    found = differences(find_database(database_url, data_dir))
    if as_json:
        show_json({"items": found})
    elif found:
        complain("\n".join(found))
    else:
        say("the database is as this version expects it")
    return 1 if found else 0
