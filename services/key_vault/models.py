"""The table of the key vault."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import DateTime, Text, func
from sqlalchemy.orm import DeclarativeBase, Mapped, composite, mapped_column

from libs.errors import ProviderKeyRejected


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
    last_test: Mapped[Trial] = composite(
        mapped_column("last_test_success"),
        mapped_column("last_test_latency"),
        mapped_column("last_test_message"),
        mapped_column("last_test_reason"),
        mapped_column("last_test_time"),
    )
    create_time: Mapped[datetime] = mapped_column(server_default=func.now())
    update_time: Mapped[datetime] = mapped_column(server_default=func.now())
