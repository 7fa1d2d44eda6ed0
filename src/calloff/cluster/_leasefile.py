"""The file of an agent's lease, which tells a later agent on the same machine whether anything of that one lives.

Every process that has the page mapped (`calloff._child.lease`) shares a lock on the file, which the system lets go of with
the last of them.
"""

import contextlib
import fcntl
import mmap
import os
import tempfile

__all__ = ["LEASES", "is_free", "machine", "make"]

#: how the files of leases begin that agents leave in a folder which is emptied when the machine starts; when the agent was
#: started comes next
LEASES = "calloff-lease-"
#: files that were here, and that nobody held any more
_freed: set[str] = set()


def machine() -> str:
    """Which machine, since when it runs, and which container of it: an agent of the same sees the same files and locks."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            boot = file.read().strip()
        return f"{boot} {os.readlink('/proc/self/ns/mnt')} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def make() -> tuple[str, int]:
    """A file for the lease, locked by all that have it mapped; those that earlier agents have left behind are removed.

    Where there is no room for one it has no name, and no later agent can tell what became of this one.
    """
    folder = "/dev/shm" if os.access("/dev/shm", os.W_OK | os.X_OK) else tempfile.gettempdir()
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        with contextlib.suppress(OSError):
            if name.startswith(LEASES) and os.stat(path).st_uid == os.getuid():
                is_free(path)
    while True:
        try:
            file, path = tempfile.mkstemp(prefix=f"{LEASES}{_begun('self')}-", dir=folder)
        except OSError:
            file, path = os.memfd_create("calloff-lease"), ""
            os.ftruncate(file, mmap.PAGESIZE)
            return path, file
        try:
            os.posix_fallocate(file, 0, mmap.PAGESIZE)
            fcntl.flock(file, fcntl.LOCK_EX)
            if os.stat(path).st_ino == os.fstat(file).st_ino:
                return path, file
        except FileNotFoundError:  # another agent took it for one that was left behind
            os.close(file)
        except OSError:
            os.close(file)
            os.unlink(path)
            folder = os.devnull


def is_free(path: str) -> bool:
    """Whether nobody holds that lease any more; its file is removed then. It may take a moment: it looks at processes."""
    if path in _freed:
        return True
    if not os.path.basename(path).startswith(LEASES):
        return False
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:  # an agent has ended in peace; or somebody has tidied up, and that proves nothing
        return not _is_mapped(path)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    else:
        os.unlink(path)
        _freed.add(path)
        return True
    finally:
        os.close(file)


def _is_mapped(path: str) -> bool:
    """Whether a process of ours has that file mapped, which has no name any more."""
    name = os.path.basename(path)
    word, since = name.encode(), int(name.removeprefix(LEASES).partition("-")[0])
    for pid in os.listdir("/proc"):
        if pid.isdigit():
            try:
                with open(f"/proc/{pid}/maps", "rb") as file:
                    if word in file.read():
                        return True
            except PermissionError:
                with contextlib.suppress(OSError):
                    if os.stat(f"/proc/{pid}").st_uid == os.getuid() and _begun(pid) >= since:
                        return True  # ours, not older than that agent, and not to be looked at: who knows
            except OSError:  # it has ended
                pass
    return False


def _begun(pid: str) -> int:
    """When a process was started, as the system counts it; 0 where that can't be seen."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19])
    except OSError:
        return 0
