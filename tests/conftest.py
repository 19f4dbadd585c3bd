"""Makes the shared fixtures known to every test, and the logs of what is tested short enough to read."""

import structlog

pytest_plugins = ("tests.support.postgres", "tests.support.redis", "tests.support.rpc", "tests.support.vault")

structlog.configure(
    processors=[
        structlog.processors.add_log_level,
        structlog.processors.format_exc_info,
        structlog.processors.KeyValueRenderer(key_order=["level", "event"]),
    ]
)
