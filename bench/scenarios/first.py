"""The first backup of a tree, and what is stored after it."""

from run import settle_disk

TREE = True


def measure(bench, round_):
    for way, row in (("ssh", "first backup, over ssh"), ("local", "first backup, beside the tree (nightsafe: the client's work alone)")):
        for contender in round_.contenders(way):
            settle_disk()
            bench.record(row, contender.name, round_.number, contender.backup(round_.tree))
    for contender in round_.contenders("ssh"):
        bench.record("stored after the first backup", contender.name, round_.number, contender.stored(), "bytes")
