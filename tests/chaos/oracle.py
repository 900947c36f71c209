"""What must hold when all is over: one receipt for each request, every snapshot is what was submitted, nothing is left over.

Knows nothing of what was done to the world.
"""

import collections
import hashlib
import os
import re
import shutil
import subprocess
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


def digest(folder: Path) -> str:
    """The names and contents of a folder."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        total.update(f"{path.relative_to(folder)}\0".encode())
        total.update(hashlib.sha256(path.read_bytes()).digest() if path.is_file() else b"folder")
    return total.hexdigest()


def refs(repository: Path) -> str:
    command = ["git", "-c", "safe.directory=*", "-C", repository, "for-each-ref", "refs/heads", "refs/tags"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder)) if folder.is_dir() else []


def pool(client) -> dict[str, tuple[str, str]]:
    """Each request in a client's pool, with its state and the path that it is of."""
    found = {}
    # From the first state to the last, so that none is missed that moves on while we look.
    for folder in ("inbox", "work"):
        for name in names(client.folder / "pool" / folder):
            try:
                text = (client.folder / "pool" / folder / name).read_text()
            except (FileNotFoundError, IsADirectoryError):
                continue
            if name[0] in "CPF" and (path := re.search(r'^path = "(.*)"', text, re.M)):
                found[name[1:]] = (name[0], path[1])
    return found


def is_quiet(world) -> bool:
    """Whether nothing is on its way any more."""
    for client in world.clients:
        left = [names(client.folder / "pool/inbox"), names(client.folder / "pool/work"), names(world.dir / "node/data" / client.name / "pool")]
        if any(name[0] in "CP" for folder in left for name in folder):
            return False
    return True


class Oracle:
    """Keeps what was submitted; says in `faults` what does not hold."""

    def __init__(self, world):
        self.world = world
        self.seen: dict[str, dict[str, str]] = {client.name: {} for client in world.clients}
        self.contents: dict[str, set[str]] = collections.defaultdict(set)
        self.faults: list[str] = []
        self.outcomes: collections.Counter = collections.Counter()
        self.requests = self.restored = 0

    def note(self, client, path: Path) -> None:
        """What is at `path` now is what its unfinished requests are of."""
        content = refs(path) if path.suffix == ".git" else digest(path) if path.is_dir() else ""
        self.contents[str(path)].add(content)
        for request, (_, of) in pool(client).items():
            if of == str(path):
                self.seen[client.name].setdefault(request, content)

    def check(self) -> None:
        for client in self.world.clients:
            self._receipts(client)
            self._left_over(client)
            self._snapshots(client)
        for command in (["nightsafe", "--config", self.world.clients[0].config, "verify"], ["nightsafe-server", "log", "--verify"]):
            done = self.world.run(*command)
            if done.returncode != 0:
                self.faults.append(f"{command[-1]}: exit {done.returncode}: {done.stdout[-2000:]} {done.stderr[-2000:]}")

    def _added(self, repository: Path, branch: str, kind: str) -> collections.Counter:
        command = ["git", "-c", "safe.directory=*", "-C", repository, "log", "--format=", "--name-only", "--no-renames", "--diff-filter=A", branch]
        found = subprocess.run(command, capture_output=True, text=True).stdout.split()
        return collections.Counter(name[2:-5] for name in found if name.startswith(kind))

    def _receipts(self, client) -> None:
        data = self.world.dir / "node/data"
        asked = self._added(data / "log" / f"{client.name}.git", "requests", "RQ")
        told = self._added(data / client.name / "receipts.git", "receipts", "RC")
        queued = self._added(client.folder / "queues/node1.git", "requests", "RQ")
        for what, one, other in (("requests without exactly one receipt", asked, told), ("requests that the node does not have", queued, asked)):
            if one != other:
                self.faults.append(f"{client.name}: {what}: {sorted(((one - other) + (other - one)).items())}")
        ended = set(names(client.folder / "outcomes"))
        if lost := [request for request in self.seen[client.name] if request not in asked and request not in ended]:
            self.faults.append(f"{client.name}: nothing is known of {lost}")
        self.outcomes["ended at the client"] += len([request for request in self.seen[client.name] if request not in asked])
        self.requests += sum(asked.values())
        log = self.world.run("nightsafe", "--config", client.config, "log", "-n", "0", "--json")
        for outcome in re.findall(r'"outcome": ?"?(\w+)', log.stdout):
            self.outcomes[outcome] += 1

    def _left_over(self, client) -> None:
        data = self.world.dir / "node/data" / client.name
        handover = self.world.dir / "node/gate/handover" / client.name
        for folder in (client.folder / "pool/inbox", client.folder / "export/node1", data / "pool/.incomplete", data / "incoming", data / "trash", handover):
            if left := names(folder):
                self.faults.append(f"{folder}: {left}")
        for folder in (client.folder / "pool/work", data / "pool"):
            if left := [name for name in names(folder) if name[0] in "iCP"]:
                self.faults.append(f"{folder}: {left}")
        drafts = [path for root in (client.folder, self.world.dir / "node") for path in root.rglob(".tmp-*") if not path.name.endswith(".lock")]
        if drafts:
            self.faults.append(f"{client.name}: unfinished files: {drafts}")

    def _snapshots(self, client) -> None:
        store = self.world.dir / "node/data" / client.name / "snapshots"
        with ThreadPoolExecutor(2) as threads:
            list(threads.map(lambda name: self._snapshot(client, store / name), names(store)))

    def _snapshot(self, client, folder: Path) -> None:
        dataset = tomllib.loads((folder / "request.toml").read_text())["dataset"]
        path = dataset.split(":", 1)[1]
        expected = {self.seen[client.name][folder.name]} if folder.name in self.seen[client.name] else self.contents[path]
        target = self.world.dir / "back" / client.name / folder.name
        done = self.world.run(
            "nightsafe", "--config", self.world.clients[0].config, "restore", f"{client.name}:{dataset}", "--at", folder.name, "--target", target
        )
        found = None if done.returncode != 0 else refs(target) if path.endswith(".git") else digest(target)
        if found not in expected:
            self.faults.append(f"{client.name}: {folder.name} of {dataset} is not what was submitted: exit {done.returncode} {done.stderr[-500:]}")
        self.restored += 1
        shutil.rmtree(target, ignore_errors=True)
