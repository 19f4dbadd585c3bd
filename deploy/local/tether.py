"""Becomes another program that cannot outlive its parent: `tether.py <spec.json>`.

The specification says what to run: `argv`, `env` (all of it), `cwd`, the signal to receive `on_orphaned` (null for
none), a `lock` file, and whether to `leave_root`. It runs before every program of the stack, so it uses nothing
but the standard library and starts with `python -I -S`. Linux only.

`tether.py --can-rename-root` tells by its exit status whether a process of root may go on under another name.

While the program or a descendant that kept file descriptor 3 lives, `lock` is locked (shared): whoever gets it
exclusively knows that nothing of the stack is left, without trusting process ids.
"""

import ctypes
import fcntl
import json
import os
import resource
import signal
import struct
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_KEEPCAPS = 8
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 47, 2
_CAP_DAC_OVERRIDE = 1
_CLONE_NEWUSER = 0x10000000
_RENAMED = 1000
_LINUX_CAPABILITY_VERSION_3 = 0x20080522

# Carries the process id of a tethered parent to its children.
_PARENT = "TETHERED_TO"


def main() -> None:
    """Prepares this process as specified and replaces it."""
    if sys.argv[1] == "--can-rename-root":
        _rename_root()
        return
    specification = json.loads(Path(sys.argv[1]).read_text())
    os.umask(0o077)
    _hold_lock(specification["lock"])
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
    if specification["leave_root"] and os.geteuid() == 0:
        _leave_root(specification["cwd"])
    if specification["on_orphaned"]:
        # After _leave_root: the kernel forgets the request when a process changes its user.
        die_with_parent(int(os.environ[_PARENT]), getattr(signal, specification["on_orphaned"]))
    os.chdir(specification["cwd"])
    environment = {**specification["env"], _PARENT: str(os.getpid())}
    os.execve(specification["argv"][0], specification["argv"], environment)  # noqa: S606 a shell is what it must not be


def _hold_lock(path: str) -> None:
    opened = os.open(path, os.O_RDONLY | os.O_CREAT, 0o600)
    # supervisord closes every descriptor from 5 on; its children get theirs here, so 3 is free.
    if opened != 3:
        os.dup2(opened, 3, inheritable=True)
        os.close(opened)
    os.set_inheritable(3, True)
    fcntl.flock(3, fcntl.LOCK_SH)


def die_with_parent(parent: int, with_signal: signal.Signals) -> None:
    """Has the kernel send this process a signal when the thread that started it ends."""
    _call("prctl", _PR_SET_PDEATHSIG, with_signal.value, 0, 0, 0)
    # It may have ended before the request was made.
    if os.getppid() != parent:
        sys.exit("The parent process is gone.")


def _leave_root(folder: str) -> None:
    """Continues as the owner of a folder. PostgreSQL refuses to run as root.

    Where that is root, root continues under another name.
    """
    owner = Path(folder).stat()
    try:
        if owner.st_uid:
            _become(owner.st_uid, owner.st_gid)
        else:
            _rename_root()
    except OSError as error:
        sys.exit(f"PostgreSQL does not run as root, and root cannot be left here ({error}); use an ordinary user.")


def _become(user: int, group: int) -> None:
    """Changes the user, keeping root's way through folders that only root may enter, such as the state's."""
    _call("prctl", _PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setresgid(group, group, group)
    os.setresuid(user, user, user)
    header = struct.pack("Ii", _LINUX_CAPABILITY_VERSION_3, 0)
    only = 1 << _CAP_DAC_OVERRIDE
    # Effective, permitted, inheritable; the second triple is for capabilities from 32 on.
    _call("capset", header, struct.pack("6I", only, only, only, 0, 0, 0))
    _call("prctl", _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE, 0, 0)


def _rename_root() -> None:
    user, group = os.geteuid(), os.getegid()
    _call("unshare", _CLONE_NEWUSER)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{_RENAMED} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{_RENAMED} {group} 1")


def _call(function: str, *arguments: int | bytes) -> None:
    words = [ctypes.c_ulong(argument) if isinstance(argument, int) else argument for argument in arguments]
    if getattr(ctypes.CDLL(None, use_errno=True), function)(*words) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{function}: {os.strerror(number)}")


if __name__ == "__main__":
    main()
