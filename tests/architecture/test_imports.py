"""Who may import whom, what stands in one place only, and that importing does nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.source_code import ROOT, Module, modules

# Modules beyond servicers and wiring that know protobuf types, each with its reason.
TALKS_TO_OTHER_SERVICES = {
    "libs/audit.py": "tells auth what the service saw",
    "services/analytics/kept_conversations.py": "reads what was said in a chat, which is a message of its own",
    "services/analytics/opened_keys.py": "asks the key vault to open data keys",
    "services/analytics/rewrap_history.py": "asks the key vault to wrap data keys anew",
    "services/key_vault/key_trials.py": "asks the workers to try keys",
    "services/provider_router/auto_chats.py": "says in a chat that it does not decode otherwise whom it is for",
    "services/provider_router/chat_workers.py": "forwards chats to the workers",
    "services/provider_router/comparison.py": "puts a conversation to several workers",
    "services/provider_router/comparison_validation.py": "checks what is put to all of them as each worker would",
    "services/provider_router/dialect_forwarding.py": "reads the body of a chat and says whom it is for",
    "services/provider_router/observation.py": "watches the health of the other services",
    "services/provider_router/provider_health.py": "hears from the workers how their providers answer",
    "services/provider_router/provider_states.py": "asks the key vault what a person may use",
    "services/provider_router/routed_answers.py": "writes into answers that it does not decode who failed before",
    "services/provider_router/routing.py": "reads the provider out of a chat that it does not decode otherwise",
    "services/provider_router/worker_models.py": "asks the workers which models there are",
}
# Libraries that one module wraps, so that nothing else knows their types and exceptions.
CONTAINED = {
    "hvac": ["services/key_vault/vault_session.py"],
    "requests": ["services/key_vault/vault_session.py"],  # hvac raises its exceptions
    "aiohttp": ["libs/metrics.py", "libs/worker/upstream.py"],  # its server the one, its client the other
    "genai_prices": ["libs/model_catalog/published.py"],
    "opentelemetry": ["libs/span_export.py"],
    "argon2": ["services/auth/password_hashing.py"],
    "sqlite3": ["libs/outbox.py"],
    "uvloop": ["libs/rpc/server.py"],
}
READS_THE_ENVIRONMENT = {
    "libs/settings.py": "the one reader",
    "services/__main__.py": "of an image, before it is known whose settings there are",
}


def service_of(name: str) -> str:
    """Returns the package a module of `services` belongs to; each worker is one."""
    return ".".join(name.split(".")[: 3 if name.startswith("services.workers.") else 2])


def offenders(imported_by: Module, *forbidden: str) -> list[str]:
    return [
        f"{imported_by.path} imports {name}"
        for name in imported_by.imports()
        if any(name == package or name.startswith(f"{package}.") for package in forbidden)
    ]


class TestLayers:
    @pytest.mark.parametrize("module", modules("libs"), ids=lambda module: module.name)
    def test_libs_know_no_service(self, module: Module) -> None:
        assert offenders(module, "services", "deploy", "tests", "proto") == []

    @pytest.mark.parametrize("module", modules("services"), ids=lambda module: module.name)
    def test_services_know_no_deployment(self, module: Module) -> None:
        assert offenders(module, "deploy", "tests", "proto") == []

    @pytest.mark.parametrize("module", modules("services"), ids=lambda module: module.name)
    def test_services_do_not_know_each_other(self, module: Module) -> None:
        others = {service_of(name) for name in module.imports() if name.startswith("services.")}
        assert others - {service_of(module.name)} == set()

    @pytest.mark.parametrize("module", modules("services", "libs"), ids=lambda module: module.name)
    def test_protobuf_stays_at_the_edges(self, module: Module) -> None:
        knows = any(part.endswith(("_pb2", "_pb2_grpc")) for name in module.imports() for part in name.split("."))
        may = (
            module.path.startswith(("libs/rpc/", "libs/worker/", "services/workers/"))  # decision D8
            or module.path.startswith(("libs/openai_api/", "libs/anthropic_api/"))  # its other half: they translate
            or module.path.endswith(("servicer.py", "_messages.py", "__main__.py"))  # and what converts for them
            or module.path in TALKS_TO_OTHER_SERVICES
        )
        assert may or not knows


class TestOnePlace:
    @pytest.mark.parametrize("library", CONTAINED)
    def test_a_library_is_wrapped_by_one_module(self, library: str) -> None:
        users = [module.path for module in modules("libs", "services") if offenders(module, library)]
        assert users == CONTAINED[library]

    @pytest.mark.parametrize(
        "row",
        [
            # Health without TLS has a server of its own, which offers nothing else.
            ("grpc.aio.server", "libs/rpc/plain_health.py", "libs/rpc/server.py"),
            ("grpc.aio.secure_channel", "libs/rpc/channel.py"),
            ("uvloop.run", "libs/rpc/server.py"),
        ],
        ids=lambda row: row[0],
    )
    def test_there_is_one_bootstrap_and_one_opener_of_channels(self, row: tuple[str, ...]) -> None:
        call, *places = row
        users = {module.path: module.uses(call) for module in modules("libs", "services") if module.uses(call)}
        assert users == dict.fromkeys(places, 1)

    @pytest.mark.parametrize("library", ["httpx", "urllib.request", "urllib3", "http.client"])
    def test_nobody_speaks_http_in_another_way(self, library: str) -> None:
        assert [module.path for module in modules("libs", "services") if offenders(module, library)] == []

    @pytest.mark.parametrize("call", ["insecure_channel", "add_insecure_port", "insecure_server_credentials"])
    def test_nothing_but_health_is_served_or_called_in_the_clear(self, call: str) -> None:
        users = {module.path for module in modules("libs", "services") if call in module.text}
        assert users <= {"libs/rpc/plain_health.py"}

    def test_one_module_reads_the_environment(self) -> None:
        names = ("os.environ", "os.environb", "os.getenv", "environ", "getenv")
        users = {
            module.path
            for module in modules("libs", "services")
            if module.uses("os.environ") or module.uses("os.getenv") or set(names) & set(module.imports())
        }
        assert users == set(READS_THE_ENVIRONMENT)

    def test_every_exception_is_still_one(self) -> None:
        by_path = {module.path: module for module in modules("libs", "services")}
        for path in TALKS_TO_OTHER_SERVICES:
            assert "_pb2" in by_path[path].text, path


_IMPORT_EVERYTHING = """
import importlib, sys, threading
ROOT, GENERATED = sys.argv[1] + "/", sys.argv[1] + "/libs/gen/"
watched, found = True, []

def ours(depth):
    # Whose doing it is: the nearest caller that is not the standard library's. What a foreign library does while
    # it is being imported is its own business.
    frame = sys._getframe(depth)
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith("<frozen importlib"):
            return False
        if file.startswith(ROOT) and not file.startswith((GENERATED, ROOT + ".venv/")):
            return True
        frame = frame.f_back
    return False

FORBIDDEN = ("open", "socket.", "subprocess.", "sqlite3.", "os.system", "os.fork", "os.posix_spawn", "os.putenv",
             "os.mkdir", "os.remove", "os.rename", "os.listdir", "os.scandir", "tempfile.", "shutil.")

def hook(event, arguments):
    if watched and event.startswith(FORBIDDEN) and ours(2):
        found.append((event, str(arguments)[:200]))

start = threading._start_new_thread

def start_recorded(*arguments):  # there is no audit event for it
    if ours(2):
        found.append(("thread", str(arguments)[:200]))
    return start(*arguments)

threading._start_new_thread = start_recorded
sys.addaudithook(hook)
for name in sys.argv[2:]:
    importlib.import_module(name)
watched = False
print(*found, sep="\\n", file=sys.stderr)
sys.exit(1 if found else 0)
"""


class TestImporting:
    NAMES = tuple(
        # Alembic runs these files; nobody imports them.
        module.name
        for module in modules("libs", "services")
        if ".migrations." not in module.name
    )

    def run(self, *names: str, root: Path = ROOT) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-B", "-c", _IMPORT_EVERYTHING, str(root), *names]
        return subprocess.run(command, env={}, cwd=root, capture_output=True, text=True, timeout=60, check=False)

    def test_every_module_is_imported_without_settings_and_does_nothing(self) -> None:
        done = self.run(*self.NAMES)
        assert done.returncode == 0, done.stderr

    @pytest.mark.parametrize(
        "line",
        [
            "import socket; socket.socket()",
            "import threading; threading.Thread(target=print).start()",
            "import sqlite3; sqlite3.connect(':memory:')",
            "import pathlib; pathlib.Path(__file__).read_text()",
            "import pathlib; pathlib.Path('made').write_text('x')",
            "import subprocess; subprocess.run(['true'])",
            "import os; os.environ['X'] = '1'",
        ],
    )
    def test_a_module_that_does_something_is_found(self, line: str, tmp_path: Path) -> None:
        (tmp_path / "guilty.py").write_text(line)
        assert self.run("guilty", root=tmp_path).returncode == 1
