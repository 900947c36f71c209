"""A dataset of one small file, changed each time, from submit to receipt: with connections kept, and with all made anew."""

from statistics import median

TREE = False


def measure(bench, number):
    tree = bench.new("tiny")
    tree.mkdir()
    safe = bench.safe(watch=True)
    safe.submit("dummy", "warm")
    (tree / "file").write_text("first\n")
    safe.submit("files", tree)
    for row, cold in (("a tiny dataset, submit to receipt, connections kept", False), ("a tiny dataset, submit to receipt, new connections", True)):
        times, memory = [], {}
        for turn in range(bench.tiny):
            (tree / "file").write_text(f"{row} {turn}\n")
            if cold:
                safe.settle()
                safe.drop_connections()
            done = safe.submit("files", tree)
            times.append(done.seconds)
            memory = {key: max(memory.get(key, 0), done.memory.get(key, 0)) for key in {*memory, *done.memory}}
        bench.record(row, "nightsafe", number, median(times), memory=memory)
    safe.close()
