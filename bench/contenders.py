"""Who is measured on trees: ourselves and the peers that are on PATH, each over ssh and with a repository beside the tree.

Every contender has the same steps. Each peer has a HOME, a cache and a repository of its own in the bench's folder.
"""

import shutil
from pathlib import Path

import measure
from measure import Measured
from safe import Safe, size

PROGRAMS = {"restic": "restic", "borg": "borg", "bupstash": "bupstash", "tar": "zstd"}


class Ours:
    """Over ssh both daemons run, and a backup is from `submit` to the receipt. No connection is open before: a peer has
    none either. Where it says so, connections are kept from another request just before."""

    name, incremental = "nightsafe", True

    def __init__(self, bench, folder: Path):
        self.way, self.safe = "ssh", Safe(folder, bench.programs, watch=True)
        self.saved = 0
        # Keys, folders and connections are there, as on any day but the first.
        self.safe.submit("dummy", "warm")

    def backup(self, tree: Path, connections: str = "new") -> Measured:
        if connections == "new":
            self.safe.drop_connections()
        else:
            self.safe.submit("dummy", "warm")
        done = self.safe.submit("files", tree)
        self.safe.settle()
        self.saved += 1
        return done

    def restore(self, tree: Path, target: Path) -> Measured:
        self.safe.drop_connections()
        return self.safe.client("restore", f"files:{tree}", "--target", target)

    def restored(self, tree: Path, target: Path) -> Path:
        """Where `restore` puts the tree."""
        return target

    def one(self, tree: Path, name: str, target: Path) -> Measured:
        self.safe.drop_connections()
        with open(target, "wb") as file:
            return self.safe.client("restore", f"files:{tree}", name, "--stdout", stdout=file)

    def stored(self) -> int:
        return self.safe.stored()

    def close(self) -> None:
        self.safe.close()


class OursAlone(Ours):
    """The client's work alone: `send` while the node is out of reach, so that it prepares and leaves it at that. Restores
    read the store as a folder."""

    def __init__(self, bench, folder: Path):
        self.way, self.safe = "local", Safe(folder, bench.programs, watch=False)
        self.saved = 0
        self.safe.client("submit", "dummy", "warm")
        self.safe.round()

    def backup(self, tree: Path) -> Measured:
        self.safe.client("submit", "files", tree)
        self.safe.drop_connections()
        self.safe.out_of_reach(True)
        try:
            done = self.safe.client("send", codes=(75,))
        finally:
            self.safe.out_of_reach(False)
        self.safe.round()
        self.saved += 1
        return done

    def restore(self, tree: Path, target: Path) -> Measured:
        return self.safe.client("restore", f"files:{tree}", "--target", target, "--store", self.store())

    def one(self, tree: Path, name: str, target: Path) -> Measured:
        with open(target, "wb") as file:
            return self.safe.client("restore", f"files:{tree}", name, "--stdout", "--store", self.store(), stdout=file)

    def store(self) -> Path:
        return self.safe.dir / "node" / "data" / "web1"


class Peer:
    """A program of somebody else's. Over ssh it goes to `bench.sshd`, which has our installation's settings."""

    name, incremental = "", True

    def __init__(self, bench, folder: Path, way: str):
        self.way, self.saved, self.dir = way, 0, folder
        self.repository = folder / "repository"
        (folder / "home").mkdir(parents=True)
        self.program = shutil.which(PROGRAMS[self.name])
        self.ssh = bench.sshd.command
        self.env = {**bench.env, "HOME": str(folder / "home"), "BENCH_SSH": self.ssh}
        self.roots = bench.sshd.roots() if way == "ssh" else {}
        self.make()

    def make(self) -> None:
        """Makes the repository."""

    def run(self, *words, **more) -> Measured:
        return measure.run(list(words), self.env, self.roots, **more)

    def shell(self, script: str, **more) -> Measured:
        return measure.run(script, self.env, self.roots, **more)

    def backup(self, tree: Path) -> Measured:
        self.saved += 1
        return self.save(tree)

    def restored(self, tree: Path, target: Path) -> Path:
        return target / tree.relative_to("/")

    def stored(self) -> int:
        return size(self.repository)

    def close(self) -> None:
        shutil.rmtree(self.dir)


class Restic(Peer):
    name = "restic"

    def make(self):
        self.env["RESTIC_PASSWORD"] = "bench"
        at = f"sftp:bench:{self.repository}" if self.way == "ssh" else str(self.repository)
        self.words = [self.program, "-q", "-r", at]
        if self.way == "ssh":
            self.words += ["-o", f"sftp.command={self.ssh} bench -s sftp"]
        self.run(*self.words, "init")

    def save(self, tree):
        return self.run(*self.words, "backup", tree)

    def save_stream(self, file):
        return self.run(*self.words, "backup", "--stdin", stdin=file)

    def restore(self, tree, target):
        return self.run(*self.words, "restore", "latest", "--target", target)

    def one(self, tree, name, target):
        with open(target, "wb") as file:
            return self.run(*self.words, "dump", "latest", tree / name, stdout=file)


class Borg(Peer):
    name = "borg"

    def make(self):
        self.env.update(BORG_PASSPHRASE="bench", BORG_RSH=self.ssh, BORG_REMOTE_PATH=self.program)
        self.at = f"ssh://bench{self.repository}" if self.way == "ssh" else str(self.repository)
        self.run(self.program, "init", "-e", "repokey-blake2", self.at)

    def save(self, tree):
        return self.run(self.program, "create", "-C", "zstd,3", f"{self.at}::{self.saved}", tree)

    def restore(self, tree, target):
        return self.run(self.program, "extract", f"{self.at}::{self.saved}", cwd=target)

    def one(self, tree, name, target):
        with open(target, "wb") as file:
            return self.run(self.program, "extract", "--stdout", f"{self.at}::{self.saved}", str(tree / name).lstrip("/"), stdout=file)


class Bupstash(Peer):
    name = "bupstash"

    def make(self):
        self.env["BUPSTASH_KEY"] = str(self.dir / "key")
        if self.way == "ssh":
            self.env["BUPSTASH_REPOSITORY_COMMAND"] = f"{self.ssh} bench {self.program} serve {self.repository}"
        else:
            self.env["BUPSTASH_REPOSITORY"] = str(self.repository)
        self.run(self.program, "new-key", "-o", self.dir / "key")
        self.run(self.program, "init")

    def save(self, tree):
        return self.run(self.program, "put", "-q", f"run={self.saved}", tree)

    def restore(self, tree, target):
        return self.run(self.program, "restore", "-q", "--into", target, f"run={self.saved}")

    def restored(self, tree, target):
        return target

    def one(self, tree, name, target):
        with open(target, "wb") as file:
            return self.run(self.program, "get", "-q", "--pick", name, f"run={self.saved}", stdout=file)


class Tar(Peer):
    """No repository at all: what the machine can do without deduplication, encryption and proof."""

    name, incremental = "tar", False

    def make(self):
        self.repository.mkdir()
        self.env["FILE"] = str(self.repository / "all.tar.zst")

    def save(self, tree):
        to = '$BENCH_SSH bench "cat >$FILE"' if self.way == "ssh" else 'cat >"$FILE"'
        self.env.update(PARENT=str(tree.parent), NAME=tree.name)
        return self.shell(f'tar -C "$PARENT" -cf - "$NAME" | zstd -q -3 -T2 | {to}')

    def restore(self, tree, target):
        source = '$BENCH_SSH bench "cat $FILE"' if self.way == "ssh" else 'cat "$FILE"'
        self.env["TARGET"] = str(target)
        return self.shell(f'{source} | zstd -q -d | tar -C "$TARGET" -xf -')

    def restored(self, tree, target):
        return target / tree.name


PEERS = [Restic, Borg, Bupstash, Tar]


def there() -> list[type[Peer]]:
    """The peers that are on PATH."""
    return [peer for peer in PEERS if shutil.which(PROGRAMS[peer.name])]
