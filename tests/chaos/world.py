"""A node and three clients on this machine, and what can be done to them.

Knows nothing of when what is done, and judges nothing.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from relay import Relay

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("web1", "web2", "web3")
# Small enough to be filled quickly.
DISK = "size=48m"


class Client:
    """One client: its configuration, its state, its daemon's name, and the links to and from it."""

    def __init__(self, world: "World", name: str):
        self.name = name
        self.folder = world.dir / ("client" if name == "web1" else f"client-{name}")
        self.config = world.dir / ("client.toml" if name == "web1" else f"{name}.toml")
        self.source = world.dir / "source" / name
        self.source.mkdir(parents=True)


class World:
    """`deploy/loopback.sh` in a folder, two more clients with their own sshd, relays between all, daemons of our own."""

    def __init__(self, folder: Path, programs: Path):
        self.dir, self.programs = folder, programs
        self.env = {
            "PATH": f"{programs}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(folder / "home"),
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "NIGHTSAFE_BIN": str(programs),
            "NIGHTSAFE_SERVER_CONFIG": str(folder / "node.toml"),
            "NIGHTSAFE_IDENTITY": str(folder / "identity.txt"),
            "NIGHTSAFE_SIGNERS": str(folder / "allowed_signers"),
            "NIGHTSAFE_NOW": str(folder / "clock"),
        }
        (folder / "home").mkdir(parents=True)
        self.disks: list[Path] = []
        self.daemons: dict[str, subprocess.Popen] = {}
        self.sshds: list[subprocess.Popen] = []
        self.relays: list[Relay] = []
        for disk in ("node/data", "client"):
            self._disk(folder / disk)
        self._loopback("start")
        self.clients = [Client(self, name) for name in NAMES]
        self._enrol()

    # ---- making ----------------------------------------------------------------------------------------------------

    def _disk(self, path: Path) -> None:
        """A small disk of its own, where that is allowed and DISKS=0 does not say otherwise."""
        path.mkdir(parents=True)
        if os.environ.get("DISKS") == "0":
            return
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", DISK, "nightsafe-chaos", path], capture_output=True)
        if done.returncode == 0:
            self.disks.append(path)

    def _loopback(self, action: str) -> None:
        done = subprocess.run([ROOT / "deploy/loopback.sh", self.dir, action], env=self.env, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"loopback.sh {action}: {done.stderr}")

    def _enrol(self) -> None:
        node_port = int((self.dir / "sshd/port").read_text())
        user = re.search(r'ssh = "(.*)@127', (self.dir / "client.toml").read_text())[1]
        host = " ".join((self.dir / "sshd/host_ed25519.pub").read_text().split()[:2])
        access = (self.dir / "admin/access.toml").read_text().split("[client.web1]")[0]
        signers = (self.dir / "allowed_signers").read_text()
        plain = (self.dir / "client.toml").read_text()
        for client in self.clients:
            if client.name != "web1":
                client.folder.mkdir()
                key = client.folder / "id_ed25519"
                subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", client.name, "-f", key], check=True)
            public = (client.folder / "id_ed25519.pub").read_text()
            (self.dir / f"admin/keys/{client.name}.pub").write_text(public)
            if client.name != "web1":
                signers += f'{client.name} namespaces="git" {" ".join(public.split()[:2])}\n'
            there = Relay(node_port)
            back = Relay(node_port if client.name == "web1" else self._sshd(client))
            self.relays += [there, back]
            config = plain.replace('name = "web1"', f'name = "{client.name}"').replace(f'"{self.dir}/client"', f'"{client.folder}"')
            # Each has its own sockets, as each would be on its own machine.
            runtime = self.dir / f"r{client.name[-1]}"
            runtime.mkdir(mode=0o700)
            config = re.sub(r'^runtime = .*$', f'runtime = "{runtime}"', config, flags=re.M).replace(f":{node_port}\"", f":{there.port}\"")
            client.config.write_text(config)
            if client.name != "web1":
                self.run("nightsafe", "--config", client.config, "init")
            access += (
                f'[client.{client.name}]\nkeys = ["{client.name}.pub"]\naddress = "{user}@127.0.0.1:{back.port}"\n'
                f'git_address = "{user}@127.0.0.1:{back.port}"\nhost_key = "{host}"\nallow = ["*"]\n\n'
            )
        access += '[restorer.carol]\nkeys = ["carol.pub"]\nread = ["web1:*", "web2:*", "web3:*"]\n'
        (self.dir / "admin/access.toml").write_text(access)
        (self.dir / "allowed_signers").write_text(signers)
        self._loopback("start")

    def _sshd(self, client: Client) -> int:
        """An sshd of the client's own, through which the node fetches."""
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        pull = " ".join((self.dir / "node/pull.pub").read_text().split()[:2])
        gate = f'{self.programs}/nightsafe-gate --config {client.config} export node1'
        keys = client.folder / "authorized_keys"
        keys.write_text(f'command="{gate}",restrict {pull} node1\n')
        config = (self.dir / "sshd_config").read_text()
        for key, value in (("Port", port), ("PidFile", client.folder / "sshd.pid"), ("AuthorizedKeysFile", keys)):
            config = re.sub(rf"^{key} .*$", f"{key} {value}", config, flags=re.M)
        (client.folder / "sshd_config").write_text(config)
        sshd = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin")
        self.sshds.append(subprocess.Popen([sshd, "-D", "-f", client.folder / "sshd_config", "-E", self.dir / f"sshd-{client.name}.log"], start_new_session=True))
        return port

    # ---- running ---------------------------------------------------------------------------------------------------

    def run(self, *command, timeout: float = 600) -> subprocess.CompletedProcess:
        return subprocess.run(command, env=self.env, cwd=self.dir, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout)

    def start(self, command: list) -> subprocess.Popen:
        with open(self.dir / "programs.log", "ab") as log:
            return subprocess.Popen(command, env=self.env, cwd=self.dir, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)

    def start_daemons(self) -> int:
        """Starts those that do not run; says how many that were."""
        wanted = {client.name: ["nightsafe", "--config", client.config, "watch"] for client in self.clients} | {"node1": ["nightsafe-server", "watch"]}
        dead = [name for name in wanted if name not in self.daemons or self.daemons[name].poll() is not None]
        for name in dead:
            self.daemons[name] = self.start([str(word) for word in wanted[name]])
        return len(dead)

    def stop_daemons(self) -> None:
        for daemon in self.daemons.values():
            if daemon.poll() is None:
                daemon.terminate()
        for daemon in self.daemons.values():
            try:
                daemon.wait(30)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        self.daemons.clear()

    def processes(self) -> list[tuple[int, str]]:
        """Everything that runs here, daemons and children, whoever their parent is by now; not what listens, nor this program."""
        parents, found = {}, {}
        for entry in os.listdir("/proc"):
            try:
                stat = Path(f"/proc/{entry}/stat").read_text()
                line = Path(f"/proc/{entry}/cmdline").read_bytes()
            except (OSError, UnicodeDecodeError):
                continue
            if entry.isdigit() and ") Z" not in stat:
                parents[int(entry)] = int(stat.rsplit(")", 1)[1].split()[1])
                found[int(entry)] = (stat.split("(", 1)[1].rsplit(")", 1)[0], line)
        listening = {sshd.pid for sshd in self.sshds}
        listening.add(int((self.dir / "sshd.pid").read_text().split()[0]))
        roots = listening | {daemon.pid for daemon in self.daemons.values()}
        here, ours = bytes(self.dir), []
        for pid, (name, line) in found.items():
            chain, up = {pid}, pid
            while (up := parents.get(up, 0)) and up not in chain:
                chain.add(up)
            if pid not in listening and pid != os.getpid() and (here in line or chain & roots):
                ours.append((pid, name))
        return sorted(ours)

    def set_clock(self, text: str) -> None:
        draft = self.dir / "clock.new"
        draft.write_text(text)
        draft.replace(self.dir / "clock")

    def fill(self, disk: Path) -> None:
        try:
            with open(disk / "ballast", "ab", buffering=0) as ballast:
                while ballast.write(bytes(1 << 16)):
                    pass
        except OSError:
            pass

    def calm(self) -> None:
        """All that hinders is taken away."""
        for relay in self.relays:
            relay.heal()
        for disk in self.disks:
            (disk / "ballast").unlink(missing_ok=True)
        for pid, _ in self.processes():
            try:
                os.kill(pid, signal.SIGCONT)
            except ProcessLookupError:
                pass

    def close(self) -> None:
        """Ends everything that it started."""
        self.calm()
        self.stop_daemons()
        for sshd in self.sshds:
            sshd.terminate()
            sshd.wait()
        self._loopback("stop")
        deadline = time.monotonic() + 10
        while (left := self.processes_left()) and time.monotonic() < deadline:
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            time.sleep(0.1)
        for disk in self.disks:
            subprocess.run(["umount", disk], check=False)

    def processes_left(self) -> list[int]:
        here, left = bytes(self.dir), []
        for entry in filter(str.isdigit, os.listdir("/proc")):
            try:
                if here in Path(f"/proc/{entry}/cmdline").read_bytes() and int(entry) != os.getpid():
                    left.append(int(entry))
            except OSError:
                continue
        return left
