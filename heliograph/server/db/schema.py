"""The schema's version: a new database, one to be brought forward, or one that this program must not touch."""

from dataclasses import dataclass
from importlib import resources

from heliograph.server.db.connection import DatabaseRefusedError, Execute

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Identity:
    """What a server is, fixed at its first start: its domain, and the incarnation that cursors name."""

    domain: str
    incarnation: str
    created_at_ms: int


def prepare(execute: Execute, first: Identity) -> Identity:
    """Create the schema in an empty database, or bring an older one forward; return what it says of the server.

    Each step is one transaction, so that a start cut short is taken up where it was.

    Raises:
        DatabaseRefusedError: the database is another program's, or newer than this one.
    """
    tables = {name for (name,) in execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()}
    if not tables:
        _create(execute, first)
    elif "server" not in tables:
        raise DatabaseRefusedError("the database was not made by heliograph: choose another directory")
    version, domain, incarnation, created_at_ms = execute(
        "SELECT schema_version, domain, incarnation, created_at_ms FROM server"
    ).fetchall()[0]
    if version > SCHEMA_VERSION:
        raise DatabaseRefusedError(
            f"the database has schema {version}, this program knows {SCHEMA_VERSION}: install the newer heliograph"
        )
    for step in range(version, SCHEMA_VERSION):
        _migrate(execute, step + 1)
    return Identity(domain, incarnation, created_at_ms)


def schema_text() -> str:
    """Return the SQL of the newest schema."""
    return resources.files("heliograph.server.db").joinpath("schema.sql").read_text(encoding="utf-8")


def _create(execute: Execute, first: Identity) -> None:
    execute("BEGIN IMMEDIATE").fetchall()
    execute(schema_text()).fetchall()
    execute(
        "INSERT INTO server (id, schema_version, domain, incarnation, created_at_ms) VALUES (1, ?, ?, ?, ?)",
        (SCHEMA_VERSION, first.domain, first.incarnation, first.created_at_ms),
    ).fetchall()
    execute("COMMIT").fetchall()


def _migrate(execute: Execute, version: int) -> None:
    """Run `migrations/<version>.sql`, which leads from the version before it."""
    folder = resources.files("heliograph.server.db").joinpath("migrations")
    text = folder.joinpath(f"{version:04}.sql").read_text(encoding="utf-8")
    execute("BEGIN IMMEDIATE").fetchall()
    execute(text).fetchall()
    execute("UPDATE server SET schema_version = ?", (version,)).fetchall()
    execute("COMMIT").fetchall()
