"""The newest snapshot back, all of it, into an empty folder. In the first run what comes back is compared with the tree."""

import subprocess

from measure import Failed
from run import settle_disk

TREE = True


def measure(bench, round_):
    for way, row in (("ssh", "restore of everything, over ssh"), ("local", "restore of everything, from a store on this machine")):
        for contender in round_.contenders(way):
            round_.ensure(contender)
            if not contender.incremental and round_.release:
                contender.backup(round_.tree)
            # All stay until the run is over: what it costs to delete them must not be measured with the next one.
            round_.scratches.append(bench.scratch("back"))
            target = round_.scratches[-1].dir
            settle_disk()
            bench.record(row, contender.name, round_.number, contender.restore(round_.tree, target))
            if round_.number == 0:
                compare(contender.name, round_.tree, contender.restored(round_.tree, target))


def compare(name, tree, back):
    done = subprocess.run(["diff", "-rq", "--no-dereference", tree, back], capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed(f"what {name} restored differs: {done.stdout[:1000]}{done.stderr[:1000]}")
