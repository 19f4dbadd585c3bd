"""Prepares a Postgres server for the platform: one database, and per service a role and a schema. Safe to repeat.

As a command, against a server that exists already; each file in the folder is named after a role and holds its
password:

    python -m deploy.postgres.bootstrap --url-file admin-url --passwords folder
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

import psycopg
from psycopg import sql

DATABASE = "realmultillm"
ROLES = ("auth", "key_vault", "analytics")


def bootstrap(admin_url: str, passwords: Mapping[str, str]) -> None:
    """Creates the database and, for each role, its login, its schema and its search path. Blocking.

    A role owns its schema and can read no other. `admin_url` names any database, as a role that may create both.
    Raises psycopg.Error.
    """
    with psycopg.connect(admin_url, autocommit=True) as server:
        if not server.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
            server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
    with psycopg.connect(admin_url, dbname=DATABASE) as database:
        database.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(DATABASE)))
        database.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
        for role in ROLES:
            _prepare_role(database, role, passwords[role])


def _prepare_role(database: psycopg.Connection, role: str, password: str) -> None:
    name = sql.Identifier(role)
    # Hashed here, so that the password itself can reach neither the server nor its log.
    verifier = database.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
    if not database.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role]).fetchone():
        database.execute(sql.SQL("CREATE ROLE {}").format(name))
    database.execute(sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}").format(name, sql.Literal(verifier)))
    database.execute(sql.SQL("ALTER ROLE {} SET search_path = {}").format(name, name))
    database.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(sql.Identifier(DATABASE), name))
    # Whoever creates a schema for another role must be a member of it, unless a superuser.
    database.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(name))
    database.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {} AUTHORIZATION {}").format(name, name))


def main() -> None:
    """Bootstraps the server named on the command line."""
    parser = argparse.ArgumentParser(description="Prepare a Postgres server for the platform.")
    parser.add_argument("--url-file", required=True, type=Path, help="file with the URL to connect to as administrator")
    parser.add_argument("--passwords", required=True, type=Path, help="folder with a password file per role")
    arguments = parser.parse_args()
    passwords = {role: (arguments.passwords / role).read_text().strip() for role in ROLES}
    bootstrap(arguments.url_file.read_text().strip(), passwords)


if __name__ == "__main__":
    main()
