"""Tables of the auth service. They lie in the schema that the role's search path names."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, DateTime, ForeignKey, Index, Text, func, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    """The tables of the service's schema."""

    type_annotation_map = {  # noqa: RUF012 - read by SQLAlchemy
        str: Text,
        datetime: DateTime(timezone=True),
        list[str]: ARRAY(Text),
    }


class User(Base):
    """A person with an account. `email` is in normal form.

    `password_set_time` tells one password from the next; another hash of the same password leaves it as it is.
    """

    __tablename__ = "users"
    __table_args__ = (
        Index("users_by_create_time", "create_time", "id"),
        Index("enabled_administrators", "id", postgresql_where=text("role = 'admin' AND disabled_at IS NULL")),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    role: Mapped[str]
    password_hash: Mapped[str]
    create_time: Mapped[datetime] = mapped_column(server_default=func.now())
    disabled_at: Mapped[datetime | None]
    password_set_time: Mapped[datetime] = mapped_column(server_default=func.now())


class Session(Base):
    """A sign-in session. Of its token only the SHA-256 is kept.

    It ends at its `expire_time`, or earlier when it has not been used for some time. Where from and by which program
    the person signed in is empty when not known.
    """

    __tablename__ = "sessions"

    id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    token_sha256: Mapped[bytes] = mapped_column(unique=True)
    create_time: Mapped[datetime] = mapped_column(server_default=func.now())
    expire_time: Mapped[datetime] = mapped_column(index=True)
    last_use_time: Mapped[datetime] = mapped_column(server_default=func.now())
    ip_address: Mapped[str] = mapped_column(server_default="")
    user_agent: Mapped[str] = mapped_column(server_default="")

    user: Mapped[User] = relationship(lazy="raise")


class ApiToken(Base):
    """A token of a person for programs. Of itself only the SHA-256 and its first characters, the hint, are kept.

    Without `expire_time` it does not end by itself; `last_use_time` is None until it is used.
    """

    __tablename__ = "api_tokens"

    id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    token_sha256: Mapped[bytes] = mapped_column(unique=True)
    name: Mapped[str]
    hint: Mapped[str]
    scopes: Mapped[list[str]]
    create_time: Mapped[datetime] = mapped_column(server_default=func.now())
    expire_time: Mapped[datetime | None] = mapped_column(index=True)
    last_use_time: Mapped[datetime | None]

    user: Mapped[User] = relationship(lazy="raise")


class FailureCount(Base):
    """How often signing in has failed lately for one of the subjects of `sign_in_attempts.py`.

    The subject is a digest: what people type where the email belongs may be their password.
    """

    __tablename__ = "failure_counts"

    subject: Mapped[bytes] = mapped_column(primary_key=True)
    failures: Mapped[int]
    blocked_until: Mapped[datetime]
    forget_time: Mapped[datetime] = mapped_column(index=True)


class AuditEntry(Base):
    """One entry of the audit log, which the database lets nobody change. `seq` counts from 1 without gaps.

    `details` is JSON as it was hashed. `hash` covers `previous_hash` and everything above; see `audit_chain.py`.
    """

    __tablename__ = "audit_logs"

    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    event_id: Mapped[UUID] = mapped_column(unique=True)
    time: Mapped[datetime]
    service: Mapped[str]
    user_id: Mapped[str]
    action: Mapped[str]
    resource: Mapped[str]
    ip_address: Mapped[str]
    user_agent: Mapped[str]
    request_id: Mapped[str]
    details: Mapped[str]
    previous_hash: Mapped[bytes]
    hash: Mapped[bytes]

    __table_args__ = (
        Index("audit_logs_by_time", "time", "seq"),
        Index("audit_logs_by_user", "user_id", "time", "seq"),
        Index("audit_logs_by_action", "action", "time", "seq"),
    )
