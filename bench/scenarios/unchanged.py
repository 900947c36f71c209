"""A backup of a tree in which nothing changed."""

from run import settle_disk

TREE = True


def measure(bench, round_):
    for way, row in (("ssh", "no change, over ssh"), ("local", "no change, beside the tree (nightsafe: the client's work alone)")):
        for contender in round_.contenders(way):
            if contender.incremental:
                round_.ensure(contender)
                settle_disk()
                done = contender.backup(round_.tree)
                bench.record(row, contender.name, round_.number, done)
                if way == "ssh":
                    # Our daemons keep connections for a minute; a peer opens one each time.
                    if contender.name == "nightsafe":
                        done = contender.backup(round_.tree, connections="kept")
                    bench.record("no change, over ssh, our connections kept", contender.name, round_.number, done)
