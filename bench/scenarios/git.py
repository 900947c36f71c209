"""A git repository as a mirror: the first time, with nothing new, and with one commit more.

The other is git itself: `git clone --mirror` and `git fetch` over the same sshd. GIT= names a repository; otherwise one is
made whose commits change one file each.
"""

import os
import random
import shutil
import subprocess
from pathlib import Path

from measure import run
from run import settle_disk

TREE = False


def compare(bench, number, repository):
    mirror = bench.new("mirror")
    env = {**bench.env, "HOME": str(bench.dir), "GIT_SSH_COMMAND": bench.sshd.command}
    safe = bench.safe(watch=True)
    safe.submit("dummy", "warm")

    def ours(row):
        settle_disk()
        bench.record(row, "nightsafe", number, safe.submit("git", repository))

    def theirs(row, *words):
        settle_disk()
        bench.record(row, "git", number, run(["git", *words], env, bench.sshd.roots()))

    steps = [
        ("git mirror, first (git: clone --mirror)", ["clone", "-q", "--mirror", f"ssh://bench{repository}", str(mirror)]),
        ("git mirror, nothing new (git: fetch)", ["-C", str(mirror), "fetch", "-q", "--prune"]),
        ("git mirror, one commit more (git: fetch)", ["-C", str(mirror), "fetch", "-q", "--prune"]),
    ]
    for row, words in steps:
        if "one commit" in row:
            commit(repository, env)
        turns = [lambda: ours(row), lambda: theirs(row, *words)]
        for turn in turns[number % 2 :] + turns[: number % 2]:
            turn()
    shutil.rmtree(mirror)
    safe.close()


def measure(bench, number):
    repository = bench.new("repository.git")
    given = os.environ.get("GIT")
    if given:
        subprocess.run(["git", "clone", "-q", "--bare", "--no-hardlinks", given, repository], env=bench.env, check=True)
    else:
        make(repository, bench.commits, bench.env)
    compare(bench, number, repository)
    shutil.rmtree(repository)


def make(repository: Path, commits: int, env) -> None:
    """A history by git's own import format, the same for the same number."""
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", repository], env=env, check=True)
    source = random.Random(commits)
    parts = []
    for number in range(commits):
        text = "".join(f"{source.getrandbits(40):x} line {line}\n" for line in range(20)).encode()
        name = f"{number * 7 % 97:02}/{number % 1009:04}.txt"
        head = f"commit refs/heads/main\ncommitter bench <bench@example.org> {1_700_000_000 + number} +0000\ndata 6\nchange\nM 644 inline {name}\n"
        parts.append(head.encode() + b"data %d\n" % len(text) + text)
    subprocess.run(["git", "-C", repository, "fast-import", "--quiet"], env=env, input=b"\n".join(parts), check=True)
    subprocess.run(["git", "-C", repository, "repack", "-adq"], env=env, check=True)


def commit(repository: Path, env) -> None:
    """One commit more on HEAD's branch, without a work tree."""
    git = ["git", "-C", repository, "-c", "user.name=bench", "-c", "user.email=bench@example.org"]
    words = ["commit-tree", "-p", "HEAD", "-m", "one more", "HEAD^{tree}"]
    oid = subprocess.run([*git, *words], env=env, check=True, capture_output=True, text=True).stdout.strip()
    subprocess.run([*git, "update-ref", "HEAD", oid], env=env, check=True)
