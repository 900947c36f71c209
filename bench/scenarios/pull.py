"""The node fetches 2 GB that cannot be compressed; the same bytes by OpenSSH's sftp and by `ssh cat`.

Ours is the whole `nightsafe-server poll`: taking the request in, fetching, hashing and flushing every byte, and the receipt.
"""

import random
import shutil

from measure import run
from run import settle_disk

TREE = False


def measure(bench, number):
    in_turns(bench, number, bench.pull, f"{bench.pull} MB fetched over ssh (nightsafe: the node's whole work)")


def in_turns(bench, number, megabytes, row, prepare=lambda safe: None, more=""):
    """Measures all who fetch that much. `prepare` changes our installation before, `more` are options of the others' ssh."""
    tree = bench.new("pull")
    tree.mkdir()
    source = random.Random(number)
    for part in range(20):
        (tree / f"part-{part:02}").write_bytes(source.randbytes(megabytes * 10**6 // 20))
    ssh = f"{bench.sshd.command} {more}".split()
    every = [
        lambda: ours(bench, number, tree, row, prepare),
        lambda: other(bench, number, row, "sftp", ["sftp", "-q", *in_sftps_words(ssh[1:]), f"bench:{tree}/*"]),
        lambda: other(bench, number, row, "ssh cat", f"{' '.join(ssh)} bench 'cat {tree}/*' >all"),
    ]
    turn = number % len(every)
    for one in every[turn:] + every[:turn]:
        one()
    shutil.rmtree(tree)


def in_sftps_words(options):
    """sftp has another letter for the port."""
    return ["-P" if word == "-p" else word for word in options]


def ours(bench, number, tree, row, prepare):
    safe = bench.safe(watch=False)
    prepare(safe)
    safe.client("submit", "files", tree)
    safe.client("send")
    safe.drop_connections()
    settle_disk()
    bench.record(row, "nightsafe", number, safe.node("poll"))
    safe.client("send")
    safe.close()


def other(bench, number, row, name, words):
    target = bench.new("pulled")
    target.mkdir()
    settle_disk()
    bench.record(row, name, number, run(words, {**bench.env, "HOME": str(target)}, bench.sshd.roots(), cwd=target))
    shutil.rmtree(target)
