"""Our own installation: `deploy/loopback.sh` in a folder of the bench, with its sshd, and the daemons where they are wanted."""

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import measure
from measure import Failed, Measured

HERE = Path(__file__).resolve().parent
LOOPBACK = HERE.parent / "deploy" / "loopback.sh"


class Safe:
    """A node and a client. `watch` says whether the daemons run."""

    def __init__(self, folder: Path, programs: Path, watch: bool):
        self.dir, self.programs, self.watch = folder, programs, watch
        self.env = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "HOME": str(folder / "home"),
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "NIGHTSAFE_BIN": str(programs),
            "NIGHTSAFE_CONFIG": str(folder / "client.toml"),
            "NIGHTSAFE_SERVER_CONFIG": str(folder / "node.toml"),
            "NIGHTSAFE_IDENTITY": str(folder / "identity.txt"),
            "NIGHTSAFE_SIGNERS": str(folder / "allowed_signers"),
        }
        (folder / "home").mkdir(parents=True, exist_ok=True)
        self.loopback("watch" if watch else "start")

    def loopback(self, action: str) -> None:
        done = subprocess.run([LOOPBACK, self.dir, action], env=self.env, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode != 0:
            raise Failed(f"loopback.sh {action}: {done.stderr}")

    def close(self) -> None:
        """Ends its processes and removes it."""
        self.drop_connections()
        self.loopback("stop")
        shutil.rmtree(self.dir)

    def roots(self) -> dict[int, str]:
        """Its processes with the side each stands on; what is below sshd is looked at one by one."""
        found = {}
        for name, side in (("sshd", "gate"), ("node-watch", "node"), ("client-watch", "client")):
            file = self.dir / f"{name}.pid"
            if file.exists():
                found[int(file.read_text().split()[0])] = side
        return found

    def drop_connections(self) -> None:
        """Ends kept ssh connections, so that the next step opens its own."""
        for socket in (self.dir / "run").iterdir():
            if socket.is_socket():
                subprocess.run(["ssh", "-O", "exit", "-S", socket, "x"], env=self.env, capture_output=True)

    def run(self, program: str, *words, codes=(0,), keep=False, stdout=None) -> Measured:
        """Runs one of our programs and measures all that takes part."""
        return measure.run([self.programs / program, *words], self.env, self.roots(), codes, keep, stdout=stdout)

    def client(self, *words, **more) -> Measured:
        return self.run("nightsafe", *words, **more)

    def node(self, *words, **more) -> Measured:
        return self.run("nightsafe-server", *words, **more)

    def round(self) -> None:
        """send, poll, send: carries through what was submitted, without the daemons."""
        self.client("send", "--now")
        self.node("poll")
        self.client("send", "--now")

    def submit(self, module: str, path) -> Measured:
        """From submit to the receipt, by the daemons."""
        return self.client("submit", module, path, "--wait", "--timeout", "2h")

    def settle(self) -> None:
        """Waits until the client has settled what was stored: the export folder is freed."""
        export = self.dir / "client" / "export" / "node1"
        end = time.monotonic() + 60
        while export.is_dir() and any(export.iterdir()) and time.monotonic() < end:
            time.sleep(0.02)

    def out_of_reach(self, away: bool) -> None:
        """Gives the node a port at which nobody answers, or its own again."""
        config = self.dir / "client.toml"
        port = "1" if away else (self.dir / "sshd" / "port").read_text().strip()
        config.write_text(re.sub(r'@127\.0\.0\.1:\d+"', f'@127.0.0.1:{port}"', config.read_text()))

    def stored(self) -> int:
        """Bytes of what the node keeps of the client: packs, snapshots, receipts."""
        return size(self.dir / "node" / "data" / "web1")

    def configure(self, text: str) -> None:
        """Appends to client.toml."""
        with open(self.dir / "client.toml", "a") as file:
            file.write(text)


def size(folder: Path) -> int:
    """Bytes of all files in a folder, as their lengths say."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(path, name)).st_size
            except FileNotFoundError:
                pass
    return total
