#!/usr/bin/env python3
"""Measures Nightsafe and the peers that are on PATH side by side. `make bench` runs it; docs/benchmarks.md explains it.

Says what is measured on stderr while it goes on, the table on stdout at the end, and writes everything as JSON.
"""

import importlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from datetime import datetime, timezone
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import contenders
import measure
import report
import scratch
import trees
from safe import Safe
from sshd import Sshd

# In this order. Those with TREE measure the same repositories one after the other within a run.
SCENARIOS = ["first", "unchanged", "release", "restore", "onefile", "postgres", "million", "sparse", "pull", "far", "git", "refs", "tiny", "queued", "clients"]

# What may be set, and what it is otherwise. QUICK=1 takes the second.
SETTINGS = {
    "RUNS": (3, 1),
    "FILES": (20_000, 500),  # of a made tree
    "SCALE": (100, 1),  # of pgbench
    "MILLION": (1_000_000, 2_000),  # small files
    "SPARSE": (100, 1),  # GB
    "PULL": (2_000, 20),  # MB
    "FAR": (1_000, 20),  # MB
    "COMMITS": (20_000, 200),  # of a made repository
    "REFS": (5_000, 20),  # of another one
    "TINY": (20, 3),  # backups of a tiny dataset
    "QUEUED": (1_000, 20),  # requests
    "QUEUED_CLIENTS": (100, 2),
    "CLIENTS": (10_000, 50),
}


class Bench:
    """Everything that scenarios share: settings, folders, the peers' sshd, and what was measured."""

    def __init__(self, folder: Path):
        quick = bool(os.environ.get("QUICK"))
        for name, values in SETTINGS.items():
            setattr(self, name.lower(), int(os.environ.get(name) or values[quick]))
        self.dir = folder
        self.programs = Path(os.environ.get("NIGHTSAFE_BIN") or Path(__file__).resolve().parent.parent / "target/release").resolve()
        if not (self.programs / "nightsafe-gate").exists():
            raise measure.Failed(f"the programs are not in {self.programs}; run make build, or say where they are in NIGHTSAFE_BIN")
        given = os.environ.get("TREES", "").split() or os.environ.get("TREE", "").split()
        self.trees = [Path(path).resolve() for path in given]
        for path in self.trees:
            if not path.is_dir():
                raise measure.Failed(f"{path} is no folder; TREE=DIR and TREES=\"DIR DIR DIR\" name folders")
        self.env = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "TZ": "UTC", "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null"}
        self.measurements: list[dict] = []
        self.skipped: list[dict] = []
        self.failed: list[dict] = []
        self.open_sshd: Sshd | None = None
        self.made = 0

    @property
    def sshd(self) -> Sshd:
        """The peers' sshd, started when it is first asked for."""
        if not self.open_sshd:
            safe = Safe(self.new("settings"), self.programs, watch=False)
            try:
                self.open_sshd = Sshd(self.dir / "sshd", safe.dir, self.env)
            finally:
                safe.close()
        return self.open_sshd

    def new(self, name: str) -> Path:
        """A folder of its own, not made yet."""
        self.made += 1
        return self.dir / f"{self.made}-{name}"

    def scratch(self, name: str) -> scratch.Scratch:
        """A folder for many files, which is removed by its `close`."""
        return scratch.Scratch(self.new(name))

    def safe(self, watch: bool) -> Safe:
        """A fresh installation of ours."""
        return Safe(self.new("safe"), self.programs, watch)

    def record(self, row: str, contender: str, run: int, done, unit: str = "s", memory=None) -> None:
        """Notes one value: what a step took, or a number with its unit."""
        value = done.seconds if isinstance(done, measure.Measured) else done
        memory = memory or (done.memory if isinstance(done, measure.Measured) else {})
        self.measurements.append(
            {"scenario": self.scenario, "row": row, "contender": contender, "run": run, "value": value, "unit": unit, "memory": memory}
        )
        peak = f", {max(memory.values()) / 1024:.0f} MiB" if memory else ""
        say(f"  {row}: {contender} {report.shown(value, unit)}{peak}")

    def skip(self, why: str) -> None:
        """Notes what is not measured, and why."""
        if not any(skipped["why"] == why for skipped in self.skipped):
            self.skipped.append({"scenario": self.scenario, "why": why})
            say(f"  skipped: {why}")


class Round:
    """One run over trees: a fresh copy of the first tree, and fresh repositories, made when they are first asked for."""

    def __init__(self, bench: Bench, number: int):
        self.bench, self.number, self.release = bench, number, 0
        self.scratches = [bench.scratch("tree")]
        self.tree = self.scratches[0].dir / "tree"
        if bench.trees:
            trees.copy(bench.trees[0], self.tree)
        else:
            trees.make(self.tree, bench.files)
        self.open: dict[str, list] = {}

    def contenders(self, way: str) -> list:
        """All contenders of a way ("ssh", "local"); who is first changes from run to run."""
        if way not in self.open:
            ours = contenders.Ours if way == "ssh" else contenders.OursAlone
            every = [ours(self.bench, self.bench.new("ours"))]
            every += [peer(self.bench, self.bench.new(peer.name), way) for peer in contenders.there()]
            self.open[way] = every
        every = self.open[way]
        turn = self.number % len(every)
        return every[turn:] + every[:turn]

    def ensure(self, contender) -> None:
        """The tree was backed up at least once; not measured."""
        if not contender.saved:
            contender.backup(self.tree)

    def advance(self) -> None:
        """Brings the tree to its next release, in place."""
        self.release += 1
        if self.release < len(self.bench.trees):
            changed = trees.bring_to(self.tree, self.bench.trees[self.release])
        else:
            changed = trees.change(self.tree, self.release, 0.02 * self.release)
        say(f"  release {self.release}: {changed} files are others")

    def close(self) -> None:
        for every in self.open.values():
            for contender in every:
                contender.close()
        for own in self.scratches:
            own.close()


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def settle_disk() -> None:
    """What others left to be written is not paid by the next one."""
    os.sync()


def chosen() -> list:
    names = os.environ.get("ONLY", "").replace(",", " ").split() or SCENARIOS
    unknown = [name for name in names if name not in SCENARIOS]
    if unknown:
        raise measure.Failed(f"there is no scenario {unknown[0]}; ONLY= takes {', '.join(SCENARIOS)}")
    return [importlib.import_module(f"scenarios.{name}") for name in SCENARIOS if name in names]


def run(bench: Bench) -> None:
    scenarios = chosen()
    on_tree = [one for one in scenarios if one.TREE]
    for number in range(bench.runs if on_tree else 0):
        say(f"run {number + 1} of {bench.runs} over the tree")
        round_ = Round(bench, number)
        for one in on_tree:
            attempt(bench, one, round_)
        round_.close()
    for one in scenarios:
        for number in range(0 if one.TREE else bench.runs):
            attempt(bench, one, number)


def attempt(bench: Bench, scenario, round_or_number) -> None:
    """What fails is told and noted, and does not take the hour with it that was measured before."""
    bench.scenario = scenario.__name__.split(".")[-1]
    say(bench.scenario)
    try:
        scenario.measure(bench, round_or_number)
    except measure.Failed as error:
        bench.failed.append({"scenario": bench.scenario, "why": str(error)})
        say(f"bench: {bench.scenario} failed: {error}")


def version(program: str, *words: str) -> str:
    path = shutil.which(program)
    return subprocess.run([path, *words], capture_output=True, text=True).stdout.split("\n")[0] if path else ""


def about(bench: Bench) -> dict:
    """What else the figures depend on."""
    with open("/proc/cpuinfo") as file:
        cpu = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), platform.machine())
    versions = {name: version(name, "version" if name == "restic" else "--version") for name in ("restic", "borg", "bupstash", "zstd", "git")}
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "cpu": cpu,
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "nightsafe": subprocess.run([bench.programs / "nightsafe", "--version"], capture_output=True, text=True).stdout.strip(),
        "others": {name: text for name, text in versions.items() if text},
        "settings": {name: getattr(bench, name.lower()) for name in SETTINGS},
        "trees": [str(path) for path in bench.trees] or "made",
    }


def main() -> int:
    if len(sys.argv) > 1:
        say("bench: what is measured is said by variables, as in make bench QUICK=1 ONLY=first; docs/benchmarks.md has all of them")
        return 2
    measure.adopt_orphans()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Right below: control sockets of ssh need short paths.
    folder = Path(tempfile.mkdtemp(prefix="nsb-", dir=os.environ.get("BENCH_TMP") or "/tmp"))
    # Accounts other than ours (PostgreSQL's) have to get through.
    folder.chmod(0o711)
    bench, done = None, False
    try:
        bench = Bench(folder)
        missing = [peer.name for peer in contenders.PEERS if peer not in contenders.there()]
        if missing:
            say(f"not on PATH and left out: {', '.join(missing)}")
        run(bench)
        done = not bench.failed
    except measure.Failed as error:
        say(f"bench: {error}")
    except KeyboardInterrupt:
        say("bench: interrupted")
    finally:
        measure.end_all()
        scratch.close_all(keep=not done)
        if bench:
            rows = report.rows(bench.measurements)
            result = {"about": about(bench), "rows": rows, "skipped": bench.skipped, "failed": bench.failed}
            out = Path(os.environ.get("OUT") or "bench.json")
            out.write_text(json.dumps(result, indent=1) + "\n")
            if rows:
                print(f"{report.HEADING}\n{report.table(rows)}")
                say(f"\nThe same as JSON: {out.resolve()}")
        if done or not bench:
            shutil.rmtree(folder)
        else:
            say(f"The folder is kept, to look around in it: {folder}")
    return 0 if done else 1


if __name__ == "__main__":
    sys.exit(main())
