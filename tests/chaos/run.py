"""`make chaos`: three clients and a node on this machine, on whom everything comes that can come, for SECONDS (60), by SEED.

Any process is killed at any moment, links are cut and stalled, disks run full, clocks jump, daemons stand still. At the end
an oracle says whether each request has one receipt, each snapshot is what was submitted, and nothing is left over.

The same seed gives the same schedule; how the processes run beneath it is the machine's. Fails, and keeps its folder, when
something does not hold.
"""

import collections
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from oracle import Oracle, is_quiet, pool
from world import World

SECONDS = float(os.environ.get("SECONDS_OF_CHAOS") or 60)
SEED = int(os.environ.get("SEED") or random.randrange(1 << 32))
PROGRAMS = Path(os.environ.get("NIGHTSAFE_BIN") or Path(__file__).resolve().parents[2] / "target/debug").resolve()

# What happens how often, of a hundred.
EVENTS = {"kill": 52, "submit": 24, "stop": 6, "cut": 5, "stall": 4, "clock": 4, "fill": 3, "scrub": 2}
DATASETS = ("a", "b", "one.git", "two.git", "x")


class Chaos:
    """The schedule, and what came of it."""

    def __init__(self, world: World, oracle: Oracle):
        self.world, self.oracle, self.random = world, oracle, random.Random(SEED)
        self.count: collections.Counter = collections.Counter()
        self.kills: collections.Counter = collections.Counter()
        self.later: list[tuple[float, object]] = []

    def run(self) -> None:
        end = time.monotonic() + SECONDS
        due = dead_since = time.monotonic()
        while (now := time.monotonic()) < end:
            for item in [item for item in self.later if item[0] <= now]:
                self.later.remove(item)
                item[1]()
            # The dead come back after a second, as systemd would have it.
            if now - dead_since > 1:
                self.count["daemons started"] += self.world.start_daemons()
                dead_since = now
            if now >= due:
                kind = self.random.choices(list(EVENTS), EVENTS.values())[0]
                # Drawn before anything is looked at, so that the schedule hangs on the seed alone.
                draws = [self.random.random() for _ in range(4)]
                due = max(due + self.random.expovariate(5), now)
                getattr(self, kind)(*draws)
            time.sleep(0.01)
        for _, undo in self.later:
            undo()

    def kill(self, which: float, _a: float, _b: float, _c: float) -> None:
        if processes := self.world.processes():
            # Half of the deaths are our own programs'.
            ours = [process for process in processes if process[1].startswith("nightsafe")] if which < 0.5 else []
            pid, name = (ours or processes)[int(which * 1e6) % len(ours or processes)]
            try:
                os.kill(pid, signal.SIGKILL)
                self.kills[name] += 1
            except ProcessLookupError:
                pass

    def submit(self, who: float, what: float, change: float, cut: float) -> None:
        client = self.world.clients[int(who * len(self.world.clients))]
        name = DATASETS[int(what * len(DATASETS))]
        path = client.source / name
        module = "git" if name.endswith(".git") else "dummy" if name == "x" else "files"
        subject = "x" if module == "dummy" else str(path)
        # What is submitted does not change before it is done, so that it is known what it was.
        if module != "dummy" and not any(of == subject and state in "CP" for state, of in pool(client).values()):
            self._change(module, path, change)
        self.count["submitted"] += 1
        program = self.world.start(["nightsafe", "--config", str(client.config), "submit", module, subject])
        if cut < 0.1:
            time.sleep(cut / 5)
            program.kill()
            self.kills["nightsafe submit"] += 1
        program.wait()
        if module != "dummy":
            self.oracle.note(client, path)

    def _change(self, module: str, path: Path, change: float) -> None:
        bits = random.Random(change)
        if module == "git":
            run = lambda *words: subprocess.run(["git", "-C", path, "-c", "user.name=x", "-c", "user.email=x@x", *words], check=True, capture_output=True, text=True).stdout
            if not path.exists():
                path.mkdir()
                run("init", "-q", "--bare", "-b", "main")
            tree = run("mktree").strip()
            parent = ["-p", "main"] if change > 0.3 and run("for-each-ref", "refs/heads/main") else []
            commit = run("commit-tree", "-m", f"{change}", *parent, tree).strip()
            run("update-ref", "refs/heads/main", commit)
            run("update-ref", f"refs/heads/b{int(change * 5)}", commit)
            return
        path.mkdir(exist_ok=True)
        for _ in range(3):
            (path / f"f{bits.randrange(6)}").write_bytes(bits.randbytes(bits.choice([0, 100, 5000, 200_000])))
        (path / "last").write_text(str(change))

    def stop(self, which: float, seconds: float, _b: float, _c: float) -> None:
        if processes := self.world.processes():
            pid, _ = processes[int(which * len(processes))]
            self._signal(pid, signal.SIGSTOP)
            self._after(seconds * 2, lambda: self._signal(pid, signal.SIGCONT))
            self.count["stood still"] += 1

    def cut(self, which: float, seconds: float, _b: float, _c: float) -> None:
        self.world.relays[int(which * len(self.world.relays))].cut(seconds * 3)
        self.count["links cut"] += 1

    def stall(self, which: float, seconds: float, _b: float, _c: float) -> None:
        self.world.relays[int(which * len(self.world.relays))].stall(seconds * 3)
        self.count["links stalled"] += 1

    def clock(self, jump: float, _a: float, _b: float, _c: float) -> None:
        hours = int((jump - 0.4) * 120)
        self.world.set_clock(f"{'+' if hours >= 0 else '-'}{abs(hours)}h")
        self.count["clock jumps"] += 1

    def fill(self, which: float, seconds: float, _b: float, _c: float) -> None:
        if self.world.disks:
            disk = self.world.disks[int(which * len(self.world.disks))]
            self.world.fill(disk)
            self._after(seconds * 2, lambda: (disk / "ballast").unlink(missing_ok=True))
            self.count["disks full"] += 1

    def scrub(self, _a: float, _b: float, _c: float, _d: float) -> None:
        self.world.start(["nightsafe-server", "scrub", "--all"])
        self.count["scrubs"] += 1

    def _after(self, seconds: float, what) -> None:
        self.later.append((time.monotonic() + seconds, what))

    @staticmethod
    def _signal(pid: int, number: int) -> None:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass


def settle(world: World) -> None:
    """Peace: cron's commands run by turns until nothing is on its way; the clock goes on two hours a round, so that no wait is
    in the way, and what the dead left unfinished is made old."""
    world.calm()
    world.stop_daemons()
    for number in range(40):
        world.set_clock(f"+{100 + 2 * number}h")
        if number == 1:
            for root in (world.dir / "node", *(client.folder for client in world.clients)):
                for path in [*root.rglob(".tmp-*"), *root.glob("pool/inbox/i*")]:
                    os.utime(path, (time.time() - 9 * 86400,) * 2, follow_symlinks=False)
        for client in world.clients:
            # Everything is looked at once more, also what git alone would tidy.
            if number == 1:
                for path in sorted(client.source.iterdir()):
                    world.run("nightsafe", "--config", client.config, "submit", "git" if path.suffix == ".git" else "files", path)
            world.run("nightsafe", "--config", client.config, "send", "--now")
        world.run("nightsafe-server", "poll", "--sweep")
        for client in world.clients:
            world.run("nightsafe", "--config", client.config, "send", "--now")
        if number > 2 and is_quiet(world):
            return
    raise RuntimeError("it did not come to rest")


def main() -> int:
    folder = Path(tempfile.mkdtemp(prefix="nsch-", dir="/tmp"))
    began = time.monotonic()
    world = World(folder, PROGRAMS)
    chaos = oracle = None
    try:
        oracle = Oracle(world)
        chaos = Chaos(world, oracle)
        world.start_daemons()
        chaos.run()
        try:
            settle(world)
        except RuntimeError as error:
            oracle.faults.append(str(error))
        oracle.check()
    finally:
        if oracle is not None and not oracle.faults and sys.exc_info()[0] is None:
            world.close()
            shutil.rmtree(folder)
        else:
            # The disks stay mounted, or there would be nothing to look at.
            world.stop_daemons()
            print(f"kept: {folder}; look at it, then: umount {' '.join(str(disk) for disk in world.disks)}", file=sys.stderr)
    figures = {
        "seed": SEED,
        "seconds of chaos": SECONDS,
        "seconds in all": round(time.monotonic() - began),
        "kills": sum(chaos.kills.values()),
        **{f"killed {name}": number for name, number in chaos.kills.most_common()},
        **dict(sorted(chaos.count.items())),
        "requests": oracle.requests,
        **{f"receipts: {name}": number for name, number in oracle.outcomes.most_common()},
        "snapshots restored and compared": oracle.restored,
        "faults": len(oracle.faults),
    }
    if os.environ.get("JSON"):
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:32} {value}")
    for fault in oracle.faults:
        print(f"FAULT: {fault}")
    return 1 if oracle.faults else 0


if __name__ == "__main__":
    sys.exit(main())
