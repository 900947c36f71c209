"""The tree is brought to its next release, and to the one after that: time, and what is stored."""

from run import settle_disk

TREE = True


def measure(bench, round_):
    ways = {way: [one for one in round_.contenders(way) if one.incremental] for way in ("ssh", "local")}
    for contender in ways["ssh"] + ways["local"]:
        round_.ensure(contender)
    for release in ("one release", "two releases"):
        round_.advance()
        for way, how in (("ssh", "over ssh"), ("local", "beside the tree (nightsafe: the client's work alone)")):
            for contender in ways[way]:
                settle_disk()
                bench.record(f"after {release}, {how}", contender.name, round_.number, contender.backup(round_.tree))
        for contender in ways["ssh"]:
            bench.record(f"stored after {release} more", contender.name, round_.number, contender.stored(), "bytes")
