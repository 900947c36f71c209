"""A node with 10,000 clients of which none wants anything: what one poll costs, and one sweep over all."""

import base64
import random

from scenarios.queued import publish

TREE = False


def measure(bench, number):
    safe = bench.safe(watch=False)
    entry = (safe.dir / "admin/access.toml").read_text().split("[client.web1]")[1].split("[restorer")[0]
    source, more = random.Random(number), ""
    for index in range(bench.clients):
        name = f"m{index:05}"
        (safe.dir / "admin/keys" / f"{name}.pub").write_text(key(source))
        more += f"\n[client.{name}]" + entry.replace('"web1.pub"', f'"{name}.pub"')
    publish(safe, more)
    safe.node("poll", "--sweep")
    for row, words in (("a poll", ["poll"]), ("a sweep", ["poll", "--sweep"])):
        done = safe.node(*words)
        bench.record(f"{bench.clients:,} clients with nothing to do, {row}: CPU", "nightsafe", number, done.cpu, "s", done.memory)
        bench.record(f"{bench.clients:,} clients with nothing to do, {row}: time", "nightsafe", number, done.seconds, "s", done.memory)
    safe.close()


def key(source: random.Random) -> str:
    """The text of a public key that nobody has the other half of."""
    kind = b"ssh-ed25519"
    blob = len(kind).to_bytes(4, "big") + kind + (32).to_bytes(4, "big") + source.randbytes(32)
    return f"ssh-ed25519 {base64.b64encode(blob).decode()} nobody\n"
