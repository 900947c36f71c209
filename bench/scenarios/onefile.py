"""One file of about 10 KB out of the newest snapshot of the whole tree."""

import os
from pathlib import Path

from measure import Failed
from run import settle_disk

TREE = True


def measure(bench, round_):
    path = ten_kilobytes(round_.tree)
    for way, row in (("ssh", "one file of 10 KB, over ssh"), ("local", "one file of 10 KB, from a store on this machine")):
        for contender in round_.contenders(way):
            if not contender.incremental:
                continue
            round_.ensure(contender)
            target = bench.new("one")
            settle_disk()
            done = contender.one(round_.tree, str(path.relative_to(round_.tree)), target)
            bench.record(row, contender.name, round_.number, done)
            if target.read_bytes() != path.read_bytes():
                raise Failed(f"{contender.name} gave other bytes for {path}")
            target.unlink()


def ten_kilobytes(tree: Path) -> Path:
    """The file whose size is next to 10 KB; of several the first by name."""
    files = sorted(Path(folder, name) for folder, _, names in os.walk(tree) for name in names)
    return min((path for path in files if not path.is_symlink()), key=lambda path: abs(path.stat().st_size - 10_000))
