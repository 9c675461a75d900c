"""Stand-ins for devices: a root directory with Python and nothing else, and a server for ssh."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

# What the launcher and the scripts of a .deb call.
PROGRAMS = ("sh", "dirname", "readlink", "find", "rm")
# Of Python's standard library: other distributions, and what no program imports.
LEFT_OUT = ("site-packages", "__pycache__", "test", "idlelib", "tkinter", "_tkinter*", "config-*")
LOADER = "/lib64/ld-linux-x86-64.so.2"


def make_root(root: Path) -> Path:
    """Make a root directory in which there is this Python, glibc, a shell, and no more.

    Python is /usr/bin/pythonX.Y, as Debian has it.
    """
    python = Path(f"python{sys.version_info.major}.{sys.version_info.minor}")
    base = Path(sys.base_prefix)
    library = root / "usr" / "lib" / python
    shutil.copytree(base / "lib" / python, library, ignore=shutil.ignore_patterns(*LEFT_OUT))
    programs = {python.name: str(base / "bin" / python)}
    programs |= {name: shutil.which(name) or "" for name in PROGRAMS}
    (root / "usr" / "bin").mkdir()
    for name, source in programs.items():
        shutil.copy(source, root / "usr" / "bin" / name)
    for link in ("bin", "lib", "lib64"):
        (root / link).symlink_to(f"usr/{'bin' if link == 'bin' else 'lib'}")
    for name in ("dev", "proc", "tmp"):
        (root / name).mkdir()
    (root / "dev" / "null").touch()
    binaries = [*programs.values(), *map(str, library.glob("lib-dynload/*.so"))]
    needed = {library for binary in binaries for library in _libraries(Path(binary))}
    for path in [*needed, Path(LOADER), *_cpp_libraries()]:
        shutil.copy(path, root / "usr" / "lib" / path.name)
    return root


def _libraries(binary: Path) -> set[Path]:
    """Return the shared libraries that a program is linked to."""
    listed = subprocess.run(["ldd", binary], capture_output=True, text=True, check=True).stdout
    return {Path(name) for name in re.findall(r"=> (/\S+)", listed)}


def _cpp_libraries() -> set[Path]:
    """Return what the wheels need: the C++ library, and all parts of glibc."""
    cache = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=True)
    names = re.findall(
        r"lib(?:stdc\+\+|gcc_s|dl|rt|pthread|m|mvec)\.so\.\d \(.*x86-64.*\) => (/\S+)",
        cache.stdout,
    )
    return set(map(Path, names))


def run_in(root: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a root directory, in a network namespace that has no interface but its own.

    Nothing of this process's environment reaches it.
    """
    enter = 'mount --rbind /proc "$0/proc" && exec chroot "$0" "$@"'
    return subprocess.run(
        ["unshare", "--net", "--mount", "sh", "-c", enter, root, *command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/tmp"},
    )


@dataclass(frozen=True)
class Host:
    """A server for ssh on loopback: how to reach it, and the home of who logs in."""

    destination: str
    options: tuple[str, ...]
    home: Path
    log: Path


@contextmanager
def ssh_server(work: Path, path: str = os.environ["PATH"]) -> Iterator[Host]:
    """Serve ssh on 127.0.0.1 for the current user, with keys, a port and a home of its own."""
    program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program is not None
    home = work / "home"
    home.mkdir()
    for name in ("host", "user"):
        key = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(work / name)]
        subprocess.run(key, check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    if os.geteuid() == 0:  # sshd's own separation of privileges
        Path("/run/sshd").mkdir(exist_ok=True)
    (work / "config").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {work}/host\nPidFile none\n"
        f"AuthorizedKeysFile {work}/user.pub\nStrictModes no\nUsePAM no\n"
        f"PasswordAuthentication no\nSetEnv HOME={home} PATH={path}\n"
    )
    known = (work / "host.pub").read_text().rsplit(maxsplit=1)[0]
    (work / "known_hosts").write_text(f"[127.0.0.1]:{port} {known}\n")
    command = [program, "-D", "-f", str(work / "config"), "-E", str(work / "log")]
    server = subprocess.Popen(command)
    try:
        deadline = time.monotonic() + 30
        while socket.socket().connect_ex(("127.0.0.1", port)):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        options = (
            f"Port={port}",
            f"IdentityFile={work}/user",
            "IdentitiesOnly=yes",
            "BatchMode=yes",
            f"UserKnownHostsFile={work}/known_hosts",
            "GlobalKnownHostsFile=none",
        )
        yield Host("127.0.0.1", options, home, work / "log")
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait()
