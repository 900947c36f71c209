"""The node fetches 2 GB that cannot be compressed; the same bytes by OpenSSH's sftp and by `ssh cat`.

Ours is the whole `nightsafe-server poll`: taking the request in, fetching, hashing every byte, and the receipt.
"""

import random
import shutil

from measure import run
from run import settle_disk

TREE = False


def measure(bench, number):
    tree = bench.new("pull")
    tree.mkdir()
    source = random.Random(number)
    for part in range(20):
        (tree / f"part-{part:02}").write_bytes(source.randbytes(bench.pull * 10**6 // 20))
    every = [ours, sftp, cat]
    turn = number % len(every)
    for one in every[turn:] + every[:turn]:
        one(bench, number, tree, f"{bench.pull} MB fetched over ssh (nightsafe: the node's whole work)")
    shutil.rmtree(tree)


def ours(bench, number, tree, row):
    safe = bench.safe(watch=False)
    safe.client("submit", "files", tree)
    safe.client("send")
    safe.drop_connections()
    settle_disk()
    bench.record(row, "nightsafe", number, safe.node("poll"))
    safe.client("send")
    safe.close()


def sftp(bench, number, tree, row):
    other(bench, number, row, "sftp", ["sftp", "-q", *bench.sshd.command.split()[1:], f"bench:{tree}/*"])


def cat(bench, number, tree, row):
    other(bench, number, row, "ssh cat", f"{bench.sshd.command} bench 'cat {tree}/*' >all")


def other(bench, number, row, name, words):
    target = bench.new("pulled")
    target.mkdir()
    settle_disk()
    bench.record(row, name, number, run(words, {**bench.env, "HOME": str(target)}, bench.sshd.roots(), cwd=target))
    shutil.rmtree(target)
