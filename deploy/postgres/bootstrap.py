"""Prepares a Postgres server for the platform: one database, and per service a schema and two roles. Safe to repeat.

As a command, against a server that exists already; each file in the folder is named after a role (auth, auth_owner,
key_vault, …) and holds its password:

    python -m deploy.postgres.bootstrap --url-file admin-url --passwords folder

A service gets the URL of the role named like it, its migrations that of the owner. Run the migrations after this: the
service cannot.
"""

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import psycopg
from psycopg import sql

from libs.database_roles import owner_of

DATABASE = "realmultillm"
# As whom the services run, and with them those who own their tables.
ROLES = ("auth", "key_vault", "analytics")
LOGINS = (*ROLES, *map(owner_of, ROLES))
# Who takes in rows in bulk, which lie in a temporary table first.
_WITH_TEMPORARY_TABLES = ("analytics",)


def bootstrap(admin_url: str, passwords: Mapping[str, str], *, database: str = DATABASE) -> None:
    """Creates the database and, for each service, its roles and its schema. Blocking.

    The owner of a schema makes its tables; the service's own role reads and writes what is in them, as far as no
    migration has taken that away, and neither can read another schema. A database in which the services own their
    tables, as they once did, is brought to that. `admin_url` names any database, as a role that may create both.
    Raises psycopg.Error.
    """
    with psycopg.connect(admin_url, autocommit=True) as server:
        if not server.execute("SELECT 1 FROM pg_database WHERE datname = %s", [database]).fetchone():
            server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))
    with psycopg.connect(admin_url, dbname=database) as connection:
        connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(database)))
        connection.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
        for role in ROLES:
            for login in (role, owner_of(role)):
                _prepare_login(connection, login, passwords[login], database=database, schema=role)
            _prepare_schema(connection, role)
        for role in _WITH_TEMPORARY_TABLES:
            connection.execute(
                sql.SQL("GRANT TEMPORARY ON DATABASE {} TO {}").format(sql.Identifier(database), sql.Identifier(role))
            )


def _prepare_login(connection: psycopg.Connection, login: str, password: str, *, database: str, schema: str) -> None:
    name = sql.Identifier(login)
    # Hashed here, so that the password itself can reach neither the server nor its log.
    verifier = connection.pgconn.encrypt_password(password.encode(), login.encode(), b"scram-sha-256").decode()
    if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [login]).fetchone():
        connection.execute(sql.SQL("CREATE ROLE {}").format(name))
    connection.execute(sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}").format(name, sql.Literal(verifier)))
    connection.execute(sql.SQL("ALTER ROLE {} SET search_path = {}").format(name, sql.Identifier(schema)))
    connection.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(sql.Identifier(database), name))
    # Whoever creates a schema for another role must be a member of it, unless a superuser.
    connection.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(name))


def _prepare_schema(connection: psycopg.Connection, role: str) -> None:
    names = {"role": sql.Identifier(role), "owner": sql.Identifier(owner_of(role))}
    # What the service itself owned until now, and goes on using. Nothing else is granted here: a right that a
    # migration has revoked must not come back.
    owned = connection.execute(
        "SELECT tablename FROM pg_tables WHERE schemaname = %s AND tableowner = %s", [role, role]
    ).fetchall()
    connection.execute(sql.SQL("REASSIGN OWNED BY {role} TO {owner}").format(**names))
    connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {role} AUTHORIZATION {owner}").format(**names))
    connection.execute(sql.SQL("GRANT USAGE ON SCHEMA {role} TO {role}").format(**names))
    to_come = sql.SQL("ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA {role} ").format(**names)
    connection.execute(to_come + sql.SQL("GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {role}").format(**names))
    connection.execute(to_come + sql.SQL("GRANT USAGE ON SEQUENCES TO {role}").format(**names))
    for (table,) in owned:
        connection.execute(
            sql.SQL("GRANT SELECT, INSERT, UPDATE, DELETE ON {} TO {role}").format(sql.Identifier(role, table), **names)
        )


def main() -> None:
    """Bootstraps the server named on the command line.

    A file that is missing ends the process with status 66 (EX_NOINPUT), a server that cannot be reached, or does not
    let the administrator in, with 69 (EX_UNAVAILABLE).
    """
    parser = argparse.ArgumentParser(description="Prepare a Postgres server for the platform.")
    parser.add_argument("--url-file", required=True, type=Path, help="file with the URL to connect to as administrator")
    parser.add_argument("--passwords", required=True, type=Path, help="folder with a password file per role")
    arguments = parser.parse_args()
    try:
        passwords = {login: (arguments.passwords / login).read_text().strip() for login in LOGINS}
        bootstrap(arguments.url_file.read_text().strip(), passwords)
    except OSError as error:
        print(f"{error.filename} cannot be read: {error.strerror}.", file=sys.stderr)
        sys.exit(os.EX_NOINPUT)
    except psycopg.OperationalError as error:
        print(f"The server of {arguments.url_file} cannot be used: {error}", file=sys.stderr)
        sys.exit(os.EX_UNAVAILABLE)


if __name__ == "__main__":
    main()
