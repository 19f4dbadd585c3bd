"""Runs the migrations of the key vault."""

from __future__ import annotations

from libs.migration_environment import run_migrations
from services.key_vault.models import Base

run_migrations(Base.metadata)
