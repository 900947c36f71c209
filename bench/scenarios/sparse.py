"""One sparse file of 100 GB with some data in it: time and memory of the backup and of the restore."""

import os
import random

import shutil

from run import settle_disk

TREE = False


def measure(bench, number):
    tree = bench.new("sparse")
    tree.mkdir()
    length = bench.sparse * 10**9
    source = random.Random(number)
    with open(tree / "disk.img", "wb") as file:
        os.truncate(file.fileno(), length)
        for part in range(8):
            file.seek(part * (length // 8))
            file.write(source.randbytes(1 << 20))
    safe = bench.safe(watch=True)
    safe.submit("dummy", "warm")
    what = f"one sparse file of {bench.sparse} GB"
    settle_disk()
    bench.record(f"{what}, first backup", "nightsafe", number, safe.submit("files", tree))
    safe.settle()
    back = bench.new("back")
    bench.record(f"{what}, restore", "nightsafe", number, safe.client("restore", f"files:{tree}", "--target", back))
    if number == 0:
        bench.skip("peers read all of the sparse file's zeros, which takes them minutes and tells nothing about memory")
    shutil.rmtree(back)
    shutil.rmtree(tree)
    safe.close()
