"""supervisord: keeps the programs of one stack running, and takes orders over its UNIX socket.

Every program is started by the tether, so that it dies with supervisord; supervisord is tethered to the process
that started it unless it is to stay in the background.
"""

import asyncio
import contextlib
import fcntl
import http.client
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.local.private_files import private_folder, write_private

_GROUP = "stack"
_TETHER = Path(__file__).with_name("tether.py")
# All that the programs may know of the caller's environment.
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ")
# supervisord's working directory is the state folder. Its full path may be too long for a socket (107 bytes), and
# supervisord expands per cent signs in a path it made absolute itself.
_HERE = "/proc/self/cwd"
# supervisord kills what does not stop in 5 s.
_GONE_SECONDS = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A process to keep running: its command line, its environment and how it is stopped."""

    name: str
    argv: Sequence[str]
    cwd: Path
    environment: dict[str, str] = field(default_factory=dict)
    stop_signal: str = "TERM"
    on_orphaned: str = "SIGKILL"
    leave_root: bool = False


@dataclass(frozen=True, slots=True)
class ProcessState:
    """What supervisord says of a program. `pid` is 0 when it is not running; `spoken` is its own description."""

    name: str
    state: str
    pid: int
    start_time: int
    spoken: str


class SupervisorGone(Exception):
    """supervisord does not answer: it was not started, or it has died."""


class StillAlive(Exception):
    """Processes of the stack outlive what was done to end them."""


class Supervisor:
    """One supervisord with its programs. Its files go to `run`, all output to `log`, both in the folder `state`."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._run = state / "run"
        self._log = state / "log"
        self._lock = self._run / "alive.lock"
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self, programs: Sequence[Program], *, tethered: bool) -> None:
        """Starts supervisord, with all programs stopped, and waits until it takes orders.

        Must be called from a thread that lives as long as the stack shall: Linux tethers to threads.
        """
        private_folder(self._run)
        private_folder(self._log)
        for program in programs:
            self.write_specification(program)
        configuration = write_private(self._run / "supervisord.conf", self._configuration(programs))
        process = self._spawn(configuration, tethered=tethered)
        while True:
            if await self.is_running():
                return
            if process.poll() is not None:
                raise SupervisorGone(f"supervisord did not start; see {self._log / 'supervisord.out'}.")
            await asyncio.sleep(0.01)

    def _spawn(self, configuration: Path, *, tethered: bool) -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-I", "-m", "supervisor.supervisord", "-n", "-c", str(configuration)]
        on_orphaned = "SIGTERM" if tethered else None
        specification = self._write_specification("supervisord", argv, _passed_on(), self._state, on_orphaned)
        with write_private(self._log / "supervisord.out", "").open("wb") as output:
            # Not asyncio's subprocess: that kills the child when this process ends in peace.
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", _TETHER, specification],
                env={**_passed_on(), "TETHERED_TO": str(os.getpid())},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # Ctrl-C is for the runner, which stops everything in order.
                start_new_session=True,
            )
        return self._process

    def write_specification(self, program: Program) -> None:
        """Writes what the tether executes when the program starts next."""
        environment = {**_passed_on(), **program.environment}
        self._write_specification(
            program.name, program.argv, environment, program.cwd, program.on_orphaned, program.leave_root
        )

    def _write_specification(
        self,
        name: str,
        argv: Sequence[str],
        environment: dict[str, str],
        cwd: Path,
        on_orphaned: str | None,
        leave_root: bool = False,
    ) -> Path:
        specification = {
            "argv": list(argv),
            "env": environment,
            "cwd": str(cwd),
            "on_orphaned": on_orphaned,
            "lock": str(self._lock),
            "leave_root": leave_root,
        }
        return write_private(self._run / f"{name}.json", json.dumps(specification, indent=2))

    def _configuration(self, programs: Sequence[Program]) -> str:
        sections = [
            f"""\
[supervisord]
nodaemon = true
silent = true
logfile = {_HERE}/log/supervisord.log
logfile_maxbytes = 1MB
logfile_backups = 1
pidfile = {_HERE}/run/supervisord.pid
umask = 077
{"user = root" if os.geteuid() == 0 else ""}

[unix_http_server]
file = {_HERE}/run/supervisor.sock
chmod = 0600

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[group:{_GROUP}]
programs = {",".join(program.name for program in programs)}
"""
        ]
        for program in programs:
            command = shlex.join([sys.executable, "-I", "-S", str(_TETHER), str(self._run / f"{program.name}.json")])
            sections.append(f"""\
[program:{program.name}]
command = {command.replace("%", "%%")}
autostart = false
autorestart = true
startsecs = 1
startretries = 10
stopsignal = {program.stop_signal}
stopwaitsecs = 5
killasgroup = true
redirect_stderr = true
stdout_logfile = {_HERE}/log/{program.name}.log
stdout_logfile_maxbytes = 10MB
stdout_logfile_backups = 2
""")
        return "\n".join(sections)

    async def start_program(self, name: str) -> None:
        """Starts a program, without waiting for more than its birth."""
        await self._call("startProcess", f"{_GROUP}:{name}", False)

    async def signal(self, name: str, signal_number: signal.Signals) -> None:
        """Sends a signal to a program; supervisord restarts it should it die of that."""
        await self._call("signalProcess", f"{_GROUP}:{name}", signal_number.name.removeprefix("SIG"))

    async def stop_programs(self, names: Sequence[str]) -> None:
        """Stops programs side by side and waits until they are gone."""
        states = await self.states()
        running = [name for name in names if states[name].state in ("STARTING", "RUNNING", "BACKOFF")]
        for name in running:
            # One that has died meanwhile is as good as stopped.
            with contextlib.suppress(xmlrpc.client.Fault):
                await self._call("stopProcess", f"{_GROUP}:{name}", False)
        # Each question wakes supervisord, which otherwise looks after dead children once a second.
        while True:
            states = await self.states()
            if all(states[name].state != "STOPPING" for name in running):
                return
            await asyncio.sleep(0.02)

    async def states(self) -> dict[str, ProcessState]:
        """Returns the state of every program."""
        answer = await self._call("getAllProcessInfo")
        return {
            row["name"]: ProcessState(row["name"], row["statename"], row["pid"], row["start"], row["description"])
            for row in answer
        }

    async def is_running(self) -> bool:
        """Tells whether supervisord takes orders; not when it is about to end."""
        try:
            await self._call("getState")
        except (SupervisorGone, xmlrpc.client.Fault):
            return False
        return True

    async def shut_down(self) -> None:
        """Stops supervisord and all that it still runs, and waits until nothing is left."""
        with contextlib.suppress(SupervisorGone, xmlrpc.client.Fault):
            await self._call("shutdown")
        await self.gone()

    async def gone(self) -> None:
        """Waits until no process of the stack lives, whoever started or killed it. Raises StillAlive."""
        private_folder(self._run)
        deadline = time.monotonic() + _GONE_SECONDS
        descriptor = os.open(self._lock, os.O_RDONLY | os.O_CREAT, 0o600)
        try:
            while not try_lock(descriptor):
                if time.monotonic() > deadline:
                    raise StillAlive(
                        f"Processes of the stack do not end; `fuser {self._lock}` lists them, `fuser -k` kills them."
                    )
                await asyncio.sleep(0.02)
        finally:
            os.close(descriptor)
        # What a killed supervisord could not take away.
        for name in ("supervisor.sock", "supervisord.pid"):
            (self._run / name).unlink(missing_ok=True)
        if self._process is not None:
            self._process.wait()
            self._process = None

    async def _call(self, method: str, *arguments: Any) -> Any:
        return await asyncio.to_thread(self._call_blocking, method, *arguments)

    def _call_blocking(self, method: str, *arguments: Any) -> Any:
        try:
            # Through the descriptor, because the path itself may be too long for a socket. A connection per call:
            # a call that was cancelled goes on in its thread, and must not meet the next one.
            folder = os.open(self._run, os.O_PATH | os.O_DIRECTORY)
            try:
                transport = _UnixTransport(f"/proc/self/fd/{folder}/supervisor.sock")
                with xmlrpc.client.ServerProxy("http://supervisord", transport=transport) as proxy:
                    return getattr(proxy.supervisor, method)(*arguments)
            finally:
                os.close(folder)
        except (OSError, http.client.HTTPException) as error:
            raise SupervisorGone(f"supervisord does not answer ({error}).") from error


class _UnixTransport(xmlrpc.client.Transport):
    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        _, connection = self._connection
        if connection is None:
            connection = _UnixConnection(self._path)
            self._connection = host, connection
        return connection


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("supervisord", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def try_lock(descriptor: int) -> bool:
    """Takes an exclusive lock on an open file unless somebody holds one."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _passed_on() -> dict[str, str]:
    return {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
