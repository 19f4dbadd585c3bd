"""Run by Alembic."""

from libs.migration_environment import run_migrations
from services.analytics.models import metadata

run_migrations(metadata)
