"""The whole platform on one machine: real components, private state, a certificate for everyone.

`make run` and `make up` use it, and so do the tests, several at once:

    async with LocalStack(tmp_path / "state") as stack:
        await client.get(f"{stack.base_url}/api/health")
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deploy.envoy import descriptors
from deploy.envoy.render import EnvoyConfig, write_configuration
from deploy.local import binaries, pki
from deploy.local.infrastructure import ROOT, NotReady, Postgres, Redis, Sandbox, Vault, expect_ok
from deploy.local.ports import PortReservation, check_public
from deploy.local.private_files import private_folder, write_private
from deploy.local.supervision import ProcessState, Program, Supervisor, SupervisorGone, try_lock
from deploy.local.topology import (
    Layout,
    Topology,
    address,
    identities,
    is_service,
    metrics_of,
    needs,
    ports_of,
    service_of,
)
from deploy.prometheus import render as prometheus
from libs.database import upgrade
from libs.database_roles import owner_of
from libs.redaction import Secret
from libs.rpc.channel import open_channel
from libs.rpc.tls import TlsIdentity

# Generous: a process that needs longer on a laptop is broken, not slow.
_READY_SECONDS = 60.0
# What no load here comes near.
_NO_FLOOD = 1_000_000
_MIGRATED = ("auth", "key-vault", "analytics")
# Alembic keeps what it is doing in globals of the process.
_ALEMBIC = threading.Lock()

# Called with the name of a process that became ready and the seconds it took.
Progress = Callable[[str, float], None]


class StackError(Exception):
    """The stack cannot do what was asked; the message says why and what to do."""


class AlreadyRunning(StackError):
    """The stack runs already, started by this or another process."""


class StartFailed(StackError):
    """A process did not become ready; `name` says which and `log` where it wrote about it."""

    def __init__(self, name: str, reason: str, log: Path) -> None:
        super().__init__(f"{name} did not become ready: {reason}")
        self.name = name
        self.log = log


class LocalStack:
    """A stack with its state in one folder. Create it and use it in the thread of one event loop.

    `port` and `https_port` 0 choose free ones. `only` starts some processes and what they need, instead of all; the
    router and Envoy need no worker, so name those that shall run. `catalog` is a file with the providers, in place of
    the platform's own, `models` one with facts about models that go before those of the platform. Without `rate_limits`
    nobody reaches a limit. With `otlp`, http://host:port, every call is traced to that collector. `settings` adds to or
    replaces variables per service. `detached` lets the stack outlive this process; otherwise it dies with the thread
    that started it, whatever kills it. `replicas` says how many processes of a service there are: `auth`, `auth.2`, …,
    with the same settings and the same certificate. Constructing raises SettingsError for a catalogue or for replicas
    that cannot be.
    """

    def __init__(
        self,
        state: Path,
        *,
        port: int = 0,
        https_port: int = 0,
        only: Collection[str] | None = None,
        catalog: Path | None = None,
        models: Path | None = None,
        sandbox: bool = True,
        rate_limits: bool = True,
        otlp: str | None = None,
        chunk_delay_ms: int = 0,
        settings: Mapping[str, Mapping[str, str]] | None = None,
        detached: bool = False,
        replicas: Mapping[str, int] | None = None,
    ) -> None:
        self.layout = Layout(state.absolute())
        self._public_ports = {"http": port, "https": https_port}
        self.topology = Topology.of(
            catalog, sandbox=sandbox, rate_limits=rate_limits, models_file=models, otlp=otlp, replicas=replicas
        )
        self._chunk_delay_ms = chunk_delay_ms
        self._settings = settings or {}
        self._detached = detached
        self.processes = self.topology.processes(only)
        self._supervisor = Supervisor(self.layout.state)
        self._reservation = PortReservation()
        self._programs: dict[str, Program] = {}
        self._probes: dict[str, Callable[[], Awaitable[object]]] = {}
        self.ports: dict[str, int] = self._stored_ports()

    async def __aenter__(self) -> Self:
        """Starts the stack."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stops it."""
        await self.stop()

    @property
    def base_url(self) -> str:
        """Where Envoy serves HTTP."""
        return f"http://127.0.0.1:{self.ports['http']}"

    @property
    def https_url(self) -> str:
        """Where Envoy serves HTTPS, with a certificate of the stack's own authority."""
        return f"https://127.0.0.1:{self.ports['https']}"

    @property
    def sandbox_url(self) -> str:
        """Where the sandbox provider and its control endpoint are."""
        return f"http://{address(self.ports, 'sandbox')}"

    def address(self, name: str) -> str:
        """Returns host:port of a process."""
        return address(self.ports, name)

    def tls(self, name: str = "operator") -> TlsIdentity:
        """Returns a certificate with its key: a service's, or the operator's."""
        return TlsIdentity.load(self.layout.pki / name)

    def log_path(self, name: str) -> Path:
        """Returns the file that holds what a process has written."""
        return self.layout.log / f"{name}.log"

    def environment(self, name: str) -> dict[str, str]:
        """Returns the settings a service is given."""
        return {
            **self.topology.service_settings(name, self.layout, self.ports),
            **self._settings.get(service_of(name), {}),
        }

    async def start(self, progress: Progress = lambda _name, _seconds: None) -> None:
        """Starts every process the moment those it needs are ready; returns when all are.

        Raises AlreadyRunning, PortTaken, or StartFailed after having stopped everything again.
        Must be called from a thread that lives as long as the stack shall: Linux tethers to threads.
        """
        private_folder(self.layout.state)
        async with self._changing():
            if await self._supervisor.is_running():
                raise AlreadyRunning(f"The stack in {self.layout.state} is running already.")
            # What a killed runner or supervisor left may still be dying.
            await self._supervisor.gone()
            self._choose_ports()
            try:
                await asyncio.to_thread(self._prepare)
                await self._supervisor.start(list(self._programs.values()), tethered=not self._detached)
                await self._start_all(progress)
            except BaseException:
                # Also when cancelled by Ctrl-C: a start that did not finish leaves nothing behind.
                await self._stop()
                raise
        if self._detached:
            self._reservation.release()

    async def stop(self) -> None:
        """Stops everything, those first that others do not need, and waits until no process is left."""
        async with self._changing():
            await self._stop()

    async def _stop(self) -> None:
        with contextlib.suppress(SupervisorGone):
            running = set(await self._supervisor.states())
            while running:
                needed = {need for name in running for need in needs(name, running)}
                await self._supervisor.stop_programs(sorted(running - needed))
                running &= needed
        await self._supervisor.shut_down()
        self._reservation.release()

    async def is_running(self) -> bool:
        """Tells whether the stack is up, whoever started it."""
        return await self._supervisor.is_running()

    async def restart(self, name: str) -> None:
        """Stops a process as its supervisor would, starts it again and waits until it is ready."""
        await self._supervisor.stop_programs([name])
        await self._supervisor.start_program(name)
        await self.wait_ready(name)

    async def halt(self, name: str) -> None:
        """Stops a process and leaves it stopped; `restart` brings it back."""
        await self._supervisor.stop_programs([name])

    async def kill(self, name: str, signal_number: signal.Signals = signal.SIGKILL) -> None:
        """Sends a signal to a process. One killed by SIGKILL is dead on return, and is started again."""
        pid = await self.pid(name)
        await self._supervisor.signal(name, signal_number)
        while signal_number == signal.SIGKILL:
            if await self.pid(name) != pid:
                return
            await asyncio.sleep(0.01)

    async def pid(self, name: str) -> int:
        """Returns the process id, 0 while it is not running."""
        return (await self._supervisor.states())[name].pid

    async def states(self) -> dict[str, ProcessState]:
        """Returns what the supervisor knows of each process. Raises SupervisorGone when there is none."""
        return await self._supervisor.states()

    async def wait_ready(self, name: str) -> None:
        """Waits until a process serves, also one that is being started again. Raises StartFailed."""
        await self._wait_ready(name, forgiven=("EXITED", "BACKOFF"))

    async def _wait_ready(self, name: str, forgiven: Collection[str] = ()) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        reason = "it has not answered"
        first_pid = await self.pid(name)
        while time.monotonic() < deadline:
            state = (await self._supervisor.states())[name]
            if state.state not in ("STARTING", "RUNNING", *forgiven):
                raise StartFailed(name, f"it is {state.state.lower()} ({state.spoken})", self.log_path(name))
            if state.pid != first_pid and not forgiven:
                raise StartFailed(name, "it ended and had to be started again", self.log_path(name))
            try:
                await self._probes[name]()
            except NotReady as answer:
                reason = str(answer)
                await asyncio.sleep(0.03)
            else:
                return
        raise StartFailed(name, f"not within {_READY_SECONDS:.0f} s ({reason})", self.log_path(name))

    async def _start_all(self, progress: Progress) -> None:
        begun = time.monotonic()
        ready = {name: asyncio.Event() for name in self.processes}

        async def start_one(name: str) -> None:
            if name in _MIGRATED:
                await ready["postgres"].wait()
                await asyncio.to_thread(self._migrate, name)
            # The first replica brings the tables up to date.
            for need in {*needs(name, self.processes), service_of(name)} - {name}:
                await ready[need].wait()
            started = time.monotonic()
            await self._supervisor.start_program(name)
            await self._wait_ready(name)
            progress(name, time.monotonic() - started)
            ready[name].set()

        try:
            async with asyncio.TaskGroup() as tasks:
                for name in self.processes:
                    tasks.create_task(start_one(name))
        except ExceptionGroup as failures:
            # The first to fail is the cause; what failed while the others were being stopped is not.
            raise failures.exceptions[0] from None
        progress("everything", time.monotonic() - begun)

    def _migrate(self, name: str) -> None:
        role = name.replace("-", "_")
        try:
            with _ALEMBIC:
                upgrade(Secret(self.layout.database_url(owner_of(role)).read_text()), f"services.{role}")
        except Exception as error:
            reason = f"its tables could not be brought up to date: {error}"
            raise StartFailed(name, reason, self.log_path("postgres")) from error

    def _prepare(self) -> None:
        for folder in (self.layout.run, self.layout.log, self.layout.secrets, self.layout.state / "data"):
            private_folder(folder)
        pki.issue(self.layout.pki, identities(dict.fromkeys(map(service_of, self._services()))))
        self._programs = {}
        self._probes = {}
        for name in self.processes:
            self._add(name)
        write_private(self.layout.state / "prometheus.yml", self._scrapes())

    def _scrapes(self) -> str:
        """Returns the configuration of a Prometheus on this machine."""
        told = [name for name in (*self._services(), "envoy") if metrics_of(name) in self.ports]
        targets = _by_service({name: self.address(metrics_of(name)) for name in told})
        runbooks = (ROOT / "docs" / "runbooks.md").as_uri()
        return prometheus.render(targets, runbooks=runbooks, scrape_seconds=5)

    def _services(self) -> list[str]:
        return [name for name in self.processes if is_service(name)]

    def _add(self, name: str) -> None:
        match name:
            case "postgres":
                postgres = Postgres(self.layout, self.ports)
                try:
                    postgres.create()
                except NotReady as error:
                    raise StartFailed(name, str(error), self.log_path(name)) from None
                self._use(postgres)
            case "vault":
                self._use(Vault(self.layout, self.ports))
            case "redis":
                self._use(Redis(self.layout, self.ports))
            case "sandbox":
                self._use(Sandbox(self.ports, chunk_delay_ms=self._chunk_delay_ms))
            case "envoy":
                self._programs[name] = self._envoy()
                self._probes[name] = lambda: expect_ok(f"http://{self.address('envoy-admin')}/ready")
            case _:
                private_folder(self.layout.data(name))
                argv = [sys.executable, "-m", self.topology.service_module(name)]
                self._programs[name] = Program(name=name, argv=argv, cwd=ROOT, environment=self.environment(name))
                self._probes[name] = lambda: self._expect_serving(name)

    def _use(self, component: Postgres | Vault | Redis | Sandbox) -> None:
        program = component.program()
        self._programs[program.name] = program
        self._probes[program.name] = component.ready

    def _envoy(self) -> Program:
        folder = private_folder(self.layout.state / "envoy")
        descriptor_set = folder / "descriptors.pb"
        descriptors.build(descriptor_set)
        config = EnvoyConfig(
            http_port=self.ports["http"],
            https_port=self.ports["https"],
            admin_port=self.ports["envoy-admin"],
            metrics_port=self.ports[metrics_of("envoy")],
            tls_dir=self.layout.pki / "envoy",
            public_tls_dir=self.layout.pki / "public",
            descriptor_set=descriptor_set,
            clusters=_by_service({name: self.address(name) for name in self._services()}),
            access_log=Path("/dev/stdout"),
            allowed_origins=[self.base_url, self.https_url],
            otlp_endpoint=self.topology.otlp,
        )
        if not self.topology.rate_limits:
            config = replace(config, flood_per_second=_NO_FLOOD, flood_burst=_NO_FLOOD)
        configuration = write_configuration(config, folder)
        argv = [str(binaries.ENVOY), "-c", str(configuration), "--disable-hot-restart", "--log-level", "warning"]
        argv += ["--file-flush-interval-msec", "1000"]
        return Program(name="envoy", argv=argv, cwd=folder)

    async def _expect_serving(self, name: str) -> None:
        host, _, port = self.address(name).partition(":")
        try:
            _, writer = await asyncio.open_connection(host, int(port))
        except OSError as error:
            # A channel would wait longer and longer between attempts.
            raise NotReady(error.strerror or str(error)) from None
        writer.close()
        async with open_channel(self.address(name), service_of(name), self.tls()) as channel:
            try:
                answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=2)
            except grpc.aio.AioRpcError as error:
                raise NotReady(error.details() or error.code().name) from None
        if answer.status != health_pb2.HealthCheckResponse.SERVING:
            raise NotReady("its health is NOT_SERVING")

    @contextlib.asynccontextmanager
    async def _changing(self) -> AsyncIterator[None]:
        """Lets one process at a time start or stop the stack; the others wait."""
        path = private_folder(self.layout.run) / "changing.lock"
        descriptor = os.open(path, os.O_RDONLY | os.O_CREAT, 0o600)
        deadline = time.monotonic() + _READY_SECONDS
        try:
            while not try_lock(descriptor):
                if time.monotonic() > deadline:
                    raise StackError(f"Another process keeps starting or stopping the stack in {self.layout.state}.")
                await asyncio.sleep(0.05)
            yield
        finally:
            os.close(descriptor)

    def _choose_ports(self) -> None:
        earlier = self._stored_ports()
        public = {
            name: check_public(port, variable)
            for (name, port), variable in zip(self._public_ports.items(), ("PORT", "HTTPS_PORT"), strict=True)
            if port
        }
        names = [port for name in self.processes for port in ports_of(name)]
        names += [name for name in self._public_ports if name not in public]
        self.ports = {**self._reservation.take(names, earlier), **public}
        write_private(self.layout.run / "ports.json", json.dumps(self.ports, indent=2))

    def _stored_ports(self) -> dict[str, int]:
        try:
            ports: dict[str, int] = json.loads((self.layout.run / "ports.json").read_text())
        except (OSError, ValueError):
            return {}
        return ports


def _by_service(addresses: Mapping[str, str]) -> dict[str, list[str]]:
    """Returns the addresses of processes as those of the services that they are replicas of."""
    found: dict[str, list[str]] = {}
    for name, each in addresses.items():
        found.setdefault(service_of(name), []).append(each)
    return found
