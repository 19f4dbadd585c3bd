"""Runs the migrations of the auth service."""

from __future__ import annotations

from libs.migration_environment import run_migrations
from services.auth.models import Base

run_migrations(Base.metadata)
