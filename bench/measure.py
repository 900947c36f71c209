"""Runs a contender's command: wall time, CPU time, and the most memory that any process which took part held.

Knows processes alone; what is run is others' business.
"""

import ctypes
import os
import signal
import subprocess
import threading
import time
from dataclasses import dataclass, field

PR_SET_CHILD_SUBREAPER = 36

with open("/proc/self/comm") as own:
    # Ourselves, on the way to become what was asked for; shells that only start others.
    NOT_COUNTED = {own.read().strip(), "bash", "sh"}


class Failed(Exception):
    """A command did not end as it should."""


@dataclass
class Measured:
    """What one step cost. `memory` is KiB by "side name", as in "node nightsafe-server"."""

    seconds: float
    cpu: float = 0.0
    memory: dict[str, int] = field(default_factory=dict)
    output: bytes = b""

    def peak(self) -> int:
        """The most that one process held, in KiB."""
        return max(self.memory.values(), default=0)


def adopt_orphans() -> None:
    """Makes this process the parent of daemons and of ssh's masters, so that all that is measured descends from it."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise Failed("prctl(PR_SET_CHILD_SUBREAPER): " + os.strerror(ctypes.get_errno()))


def children(pid: int) -> list[int]:
    """The children of a process; none when it is gone."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            found = [int(word) for word in file.read().split()]
        for thread in os.listdir(f"/proc/{pid}/task"):
            if thread != str(pid):
                with open(f"/proc/{pid}/task/{thread}/children") as file:
                    found += [int(word) for word in file.read().split()]
        return found
    except OSError:
        return []


def family(pid: int) -> list[int]:
    """A process and all that descends from it."""
    return [pid] + [member for child in children(pid) for member in family(child)]


def end_all() -> None:
    """Ends every process that descends from this one, whatever became of who started it."""
    for sign, patience in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
        end = time.monotonic() + patience
        while members := family(os.getpid())[1:]:
            for member in members:
                try:
                    os.kill(member, sign)
                except ProcessLookupError:
                    pass
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                pass
            if time.monotonic() > end:
                break
            time.sleep(0.05)


def status(pid: int) -> tuple[str, int]:
    """The name of a process and the most memory that it has held, in KiB."""
    name, peak = "", 0
    try:
        with open(f"/proc/{pid}/status") as file:
            for line in file:
                if line.startswith("Name:"):
                    name = line.split(None, 1)[1].strip()
                    if len(name) == 15:  # the kernel cuts it there
                        name = os.path.basename(os.readlink(f"/proc/{pid}/exe"))
                elif line.startswith("VmHWM:"):
                    peak = int(line.split()[1])
    except OSError:
        pass
    return name, peak


def command_line(pid: int) -> str:
    """The words of a process, parted by spaces."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def forget_peaks(pids: list[int]) -> None:
    """What daemons held before counts no more (needs to own them; where it cannot be, it counts)."""
    for pid in pids:
        try:
            with open(f"/proc/{pid}/clear_refs", "w") as file:
                file.write("5")
        except OSError:
            pass


class Sampler:
    """Looks at processes of one contender, every 10 ms and at the end, but never for more than a twentieth of one core's time:
    whoever has more processes would pay for it. The kernel keeps each one's mark, so that only what a process takes
    between the last look at it and its end can be missed."""

    def __init__(self, roots: dict[int, str], started: int | None):
        self.roots, self.started = roots, started
        self.memory: dict[str, int] = {}
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self) -> None:
        pause = 0.01
        while not self.done.wait(pause):
            begun = time.thread_time()
            self.look()
            pause = max(0.01, 20 * (time.thread_time() - begun))
        self.look()

    def look(self) -> None:
        for root, side in self.roots.items():
            self.note(root, side)
        if self.started:
            self.note(self.started, "client")
        # Masters of connections have left the process that made them.
        for pid in children(os.getpid()):
            if pid != self.started and pid not in self.roots and status(pid)[0] == "ssh":
                self.note(pid, "both" if self.roots else "client")

    def note(self, pid: int, side: str) -> None:
        """Notes a process and all below it. A gate says itself on which side it stands; sshd's own do not count."""
        name, peak = status(pid)
        if name == "nightsafe-gate":
            side = "client" if " export " in command_line(pid) else "node"
        if peak and name not in NOT_COUNTED and not name.startswith("sshd"):
            key = f"{side} {name}"
            self.memory[key] = max(self.memory.get(key, 0), peak)
        for child in children(pid):
            self.note(child, side)

    def end(self) -> dict[str, int]:
        self.done.set()
        self.thread.join()
        return self.memory


def run(words, env, roots=None, codes=(0,), keep=False, stdin=None, stdout=None, cwd=None) -> Measured:
    """Runs `words` (a text is for bash) to the end. `roots` are other processes of the contender, with the side each
    stands on. Output is kept where `keep` says so; with any other exit code than `codes` it fails, with what was said."""
    if isinstance(words, str):
        words = ["bash", "-euo", "pipefail", "-c", words]
    roots = roots or {}
    forget_peaks([pid for root in roots for pid in family(root)])
    out = stdout if stdout is not None else subprocess.PIPE if keep else subprocess.DEVNULL
    start = time.monotonic()
    process = subprocess.Popen(words, env=env, cwd=cwd, stdin=stdin or subprocess.DEVNULL, stdout=out, stderr=subprocess.PIPE)
    sampler = Sampler(roots, process.pid)
    said: list[bytes] = []
    reader = threading.Thread(target=lambda: said.append(process.stderr.read()), daemon=True)
    reader.start()
    try:
        output = process.stdout.read() if process.stdout else b""
        # Not wait(): only this tells what the process and its children used.
        _, code, usage = os.wait4(process.pid, 0)
    except BaseException:
        for member in reversed(family(process.pid)):
            try:
                os.kill(member, signal.SIGKILL)
            except ProcessLookupError:
                pass
        raise
    seconds = time.monotonic() - start
    process.returncode = os.waitstatus_to_exitcode(code)
    memory = sampler.end()
    # A master of ssh may hold the pipe for its minute.
    reader.join(0.5)
    if process.returncode not in codes:
        text = b"".join(said).decode(errors="replace").strip()
        raise Failed(f"{' '.join(map(str, words))} ended with {process.returncode}: {text[-2000:]}")
    return Measured(seconds, usage.ru_utime + usage.ru_stime, memory, output)
