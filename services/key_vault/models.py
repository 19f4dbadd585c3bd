"""The tables of the key vault."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import ARRAY, Computed, DateTime, ForeignKey, Index, Text, func, text, true
from sqlalchemy.orm import DeclarativeBase, Mapped, composite, mapped_column

from libs.errors import ProviderKeyRejected

# Told by the ciphertext itself, so that the two cannot differ. Nothing that Vault writes is without it.
_KEY_VERSION = r"(substring(ciphertext from '^vault:v(\d{1,9}):'))::integer"


class Base(DeclarativeBase):
    """The tables of the service's schema."""

    type_annotation_map = {str: Text, datetime: DateTime(timezone=True)}  # noqa: RUF012 - read by SQLAlchemy


@dataclass(frozen=True, slots=True)
class Trial:
    """How a trial of a key went. `latency` is in milliseconds; `reason` is empty when the provider accepted the key."""

    success: bool
    latency: int
    message: str
    reason: str
    time: datetime

    @property
    def refused(self) -> bool:
        """Whether the provider itself said that the key is wrong."""
        return self.reason == ProviderKeyRejected.default_reason


class ProviderConfigRow(Base):
    """What a person has configured for a provider, the key sealed, and how the trial of the key went."""

    __tablename__ = "provider_configs"

    user_id: Mapped[str] = mapped_column(primary_key=True)
    provider: Mapped[str] = mapped_column(primary_key=True)
    ciphertext: Mapped[str]
    key_hint: Mapped[str]
    model: Mapped[str]
    temperature: Mapped[float | None]
    max_tokens: Mapped[int | None]
    priority: Mapped[int | None]
    last_test: Mapped[Trial] = composite(
        mapped_column("last_test_success"),
        mapped_column("last_test_latency"),
        mapped_column("last_test_message"),
        mapped_column("last_test_reason"),
        mapped_column("last_test_time"),
    )
    create_time: Mapped[datetime] = mapped_column(server_default=func.now())
    update_time: Mapped[datetime] = mapped_column(server_default=func.now())
    key_version: Mapped[int | None] = mapped_column(Computed(_KEY_VERSION, persisted=True))


class PlatformConfigRow(Base):
    """What administrators have configured for a provider, for everybody.

    An empty text, no models and a limit of 0 milliseconds leave the choice to the worker. Without a ciphertext there is
    no key of the platform.
    """

    __tablename__ = "platform_configs"

    provider: Mapped[str] = mapped_column(primary_key=True)
    enabled: Mapped[bool] = mapped_column(server_default=true())
    endpoint: Mapped[str] = mapped_column(server_default="")
    default_model: Mapped[str] = mapped_column(server_default="")
    allowed_models: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default="{}")
    request_timeout_ms: Mapped[int] = mapped_column(server_default="0")
    ciphertext: Mapped[str | None]
    key_hint: Mapped[str] = mapped_column(server_default="")
    last_test: Mapped[Trial | None] = composite(
        mapped_column("last_test_success", nullable=True),
        mapped_column("last_test_latency", nullable=True),
        mapped_column("last_test_message", nullable=True),
        mapped_column("last_test_reason", nullable=True),
        mapped_column("last_test_time", nullable=True),
    )
    create_time: Mapped[datetime] = mapped_column(server_default=func.now())
    update_time: Mapped[datetime] = mapped_column(server_default=func.now())
    key_version: Mapped[int | None] = mapped_column(Computed(_KEY_VERSION, persisted=True))


class EncryptionKeyRow(Base):
    """An encryption key in Vault, and the oldest version of it whose ciphertexts may still be stored."""

    __tablename__ = "encryption_keys"

    purpose: Mapped[str] = mapped_column(primary_key=True)
    floor: Mapped[int]


class RotationState(StrEnum):
    """How a rotation stands."""

    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    INCOMPLETE = "INCOMPLETE"


class KeyRotationRow(Base):
    """A rotation of an encryption key, how far it is, and which process carries it on until when."""

    __tablename__ = "key_rotations"
    __table_args__ = (
        Index("key_rotations_under_way", "purpose", unique=True, postgresql_where=text("state = 'RUNNING'")),
        Index("key_rotations_by_start", "purpose", "start_time"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=func.gen_random_uuid())
    purpose: Mapped[str] = mapped_column(ForeignKey("encryption_keys.purpose"))
    state: Mapped[str]
    target_version: Mapped[int]
    total: Mapped[int]
    rewrapped: Mapped[int] = mapped_column(server_default="0")
    failed: Mapped[int] = mapped_column(server_default="0")
    message: Mapped[str] = mapped_column(server_default="")
    started_by: Mapped[str]
    lease_holder: Mapped[UUID | None]
    lease_until: Mapped[datetime | None]
    start_time: Mapped[datetime] = mapped_column(server_default=func.now())
    update_time: Mapped[datetime] = mapped_column(server_default=func.now())
    end_time: Mapped[datetime | None]
