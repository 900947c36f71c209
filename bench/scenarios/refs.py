"""A mirror of a repository with thousands of branches: the first time, and when all of them have moved, half of them rewritten.

The other is git itself: `git clone --mirror` and `git fetch --prune` over the same sshd, which forget what was rewritten.
"""

import shutil
import subprocess

from measure import run
from run import settle_disk

TREE = False


def measure(bench, number):
    repository, mirror = bench.new("branches.git"), bench.new("mirror")
    env = {**bench.env, "HOME": str(bench.dir), "GIT_SSH_COMMAND": bench.sshd.command}
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", repository], env=env, check=True)
    move(repository, bench.refs, 0, env)
    safe = bench.safe(watch=True)
    safe.submit("dummy", "warm")
    steps = [
        ("git mirror of many refs, first (git: clone --mirror)", ["clone", "-q", "--mirror", f"ssh://bench{repository}", str(mirror)]),
        ("git mirror, all refs moved, half rewritten (git: fetch --prune)", ["-C", str(mirror), "fetch", "-q", "--prune"]),
        ("git mirror, all refs moved again (git: fetch --prune)", ["-C", str(mirror), "fetch", "-q", "--prune"]),
    ]
    for turn, (row, words) in enumerate(steps):
        if turn:
            move(repository, bench.refs, turn, env)

        def ours():
            settle_disk()
            bench.record(row, "nightsafe", number, safe.submit("git", repository))

        def theirs():
            settle_disk()
            bench.record(row, "git", number, run(["git", *words], env, bench.sshd.roots()))

        for one in (ours, theirs) if number % 2 else (theirs, ours):
            one()
    shutil.rmtree(mirror)
    safe.close()
    shutil.rmtree(repository)


def move(repository, refs: int, turn: int, env) -> None:
    """One commit more on main, and on each branch: on top of what it had, or, on every second one, in its place."""

    def commit(branch: str, base: str | None, text: str) -> bytes:
        parent = f"from {base}\n" if base else ""
        head = f"commit refs/heads/{branch}\ncommitter bench <bench@example.org> {1_700_000_000 + turn} +0000\ndata 6\nchange\n{parent}"
        return f"{head}M 644 inline {branch}.txt\ndata {len(text)}\n{text}\n".encode()

    parts = [commit("main", "refs/heads/main^0" if turn else None, f"turn {turn}")]
    for number in range(refs):
        branch = f"topic/{number % 50}/{number}"
        parts.append(commit(branch, "refs/heads/main" if number % 2 or not turn else f"refs/heads/{branch}^0", f"{branch} in turn {turn}"))
    subprocess.run(["git", "-C", repository, "fast-import", "--quiet", "--force"], env=env, input=b"".join(parts), check=True)
    subprocess.run(["git", "-C", repository, "pack-refs", "--all"], env=env, check=True)
