"""Trees to back up: copies of those that are given, or made ones that are the same everywhere, and their later releases."""

import os
import random
import shutil
import subprocess
from pathlib import Path


def copy(source: Path, target: Path) -> None:
    """A copy with times and modes, which is then changed in place."""
    subprocess.run(["cp", "-a", "--reflink=auto", "--", source, target], check=True)


def bring_to(tree: Path, release: Path) -> int:
    """Makes `tree` what `release` is, as `rsync -rlpc --delete` would: only files whose bytes differ are written, each
    under a new inode. Gives how many were."""
    changed = 0
    for folder, folders, names in os.walk(tree, topdown=False):
        other = release / Path(folder).relative_to(tree)
        for name in names + folders:
            old, new = Path(folder, name), other / name
            if not os.path.lexists(new) or old.is_dir() != new.is_dir() or old.is_symlink() != new.is_symlink():
                shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink()
                changed += 1
    for folder, folders, names in os.walk(release):
        other = tree / Path(folder).relative_to(release)
        other.mkdir(exist_ok=True)
        for name in names + [name for name in folders if Path(folder, name).is_symlink()]:
            new, old = Path(folder, name), other / name
            if not same(new, old):
                temp = other / f".{name}.new"
                shutil.copy2(new, temp, follow_symlinks=False)
                os.utime(temp, follow_symlinks=False)
                temp.rename(old)
                changed += 1
    return changed


def same(a: Path, b: Path) -> bool:
    if not os.path.lexists(b):
        return False
    if a.is_symlink():
        return os.readlink(a) == os.readlink(b)
    if a.stat().st_size != b.stat().st_size:
        return False
    with open(a, "rb") as left, open(b, "rb") as right:
        while block := left.read(1 << 20):
            if block != right.read(1 << 20):
                return False
    return True


WORDS = 4096


def text_of(seed: int, size: int) -> bytes:
    """Text of made words that zstd brings to about a third, as it does with sources."""
    source = random.Random(seed)
    words = ["".join(source.choices("etaoinshrdlucmfw_", k=source.randint(2, 11))) for _ in range(WORDS)]
    weights = [1 / (rank + 4) for rank in range(WORDS)]
    parts, length = [], 0
    while length < size:
        line = " ".join(source.choices(words, weights, k=9))
        parts.append(line)
        length += len(line) + 1
    return "\n".join(parts).encode()[:size]


def make(target: Path, files: int) -> None:
    """A tree of `files` files, mostly of some kilobytes, the same for the same number; folders of 60 files each."""
    source = random.Random(files)
    stock = text_of(1, 8 << 20)
    for number in range(files):
        folder = target / f"{number // 3600:03}" / f"{number // 60 % 60:02}"
        if number % 60 == 0:
            folder.mkdir(parents=True)
        length = min(int(source.lognormvariate(8.6, 1.3)), 4 << 20)
        at = source.randrange(len(stock) - min(length, len(stock) - 1))
        (folder / f"file-{number}.c").write_bytes(b"/* %d */\n" % number + stock[at : at + length])


def change(tree: Path, seed: int, share: float) -> int:
    """The next release of a tree that has none: of `share` of its files some lines become others. Gives how many."""
    source, changed = random.Random(seed), 0
    for folder, folders, names in os.walk(tree):
        folders.sort()
        for name in sorted(names):
            path = Path(folder, name)
            if source.random() >= share or path.is_symlink() or not path.is_file():
                continue
            content = path.read_bytes()
            at = source.randrange(len(content) + 1)
            temp = Path(folder, f".{name}.new")
            temp.write_bytes(content[:at] + b"/* changed %d */\n" % source.getrandbits(64) + content[at + 40 :])
            shutil.copymode(path, temp)
            temp.rename(path)
            changed += 1
    return changed
