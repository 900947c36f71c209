"""One million small files: time and memory of the first backup, of one without change, and of the restore."""

from run import settle_disk

TREE = False
FOLDER = 1000  # files in a folder


def measure(bench, number):
    many = bench.scratch("million")
    tree = many.dir / "tree"
    make(tree, bench.million)
    safe = bench.safe(watch=True)
    safe.submit("dummy", "warm")
    files = f"{bench.million:,} small files"
    for row in (f"{files}, first backup", f"{files}, no change"):
        settle_disk()
        bench.record(row, "nightsafe", number, safe.submit("files", tree))
        safe.settle()
    back = bench.scratch("back")
    settle_disk()
    bench.record(f"{files}, restore", "nightsafe", number, safe.client("restore", f"files:{tree}", "--target", back.dir))
    back.close()
    many.close()
    safe.close()


def make(tree, files):
    """No two files are alike, so that nothing is won by deduplication."""
    for start in range(0, files, FOLDER):
        folder = tree / f"{start // FOLDER:05}"
        folder.mkdir(parents=True)
        for number in range(start, min(start + FOLDER, files)):
            with open(folder / f"{number:07}", "wb") as file:
                file.write(b"file %d of many, each with some bytes of its own: %x\n" % (number, number * 2654435761))
