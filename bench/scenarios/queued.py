"""Many requests that many clients have queued while the node was away: how many a second one poll answers."""

import concurrent.futures
import os
import shutil
import subprocess
from pathlib import Path

from measure import Failed
from run import settle_disk

TREE = False


def measure(bench, number):
    safe = bench.safe(watch=False)
    clients = [f"c{index}" for index in range(bench.queued_clients)]
    add(safe, clients)
    each = bench.queued // len(clients)
    # Signing, pushing and the gate are the clients' work and not measured here.
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as crew:
        for done in [crew.submit(queue, safe, client, each) for client in clients]:
            done.result()
    safe.drop_connections()
    settle_disk()
    done = safe.node("poll")
    answered = sum(receipts(safe, client) for client in clients)
    if answered != each * len(clients):
        raise Failed(f"{answered} of {each * len(clients)} requests were answered")
    row = f"{bench.queued:,} requests of {len(clients)} clients, answered by one poll"
    bench.record(row, "nightsafe", number, answered / done.seconds, "a second", done.memory)
    safe.close()


def add(safe, clients) -> None:
    """Puts clients into the access list, each with a configuration and keys of its own."""
    text = (safe.dir / "client.toml").read_text()
    entry = (safe.dir / "admin/access.toml").read_text().split("[client.web1]")[1].split("[restorer")[0]
    more = ""
    for client in clients:
        home = safe.dir / "clients" / client
        home.mkdir(parents=True)
        own = text.replace(f'"{safe.dir}/client"', f'"{home}"').replace('name = "web1"', f'name = "{client}"')
        (home / "client.toml").write_text(own)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", client, "-f", home / "id_ed25519"], check=True)
        subprocess.run([safe.programs / "nightsafe", "--config", home / "client.toml", "init"], env=safe.env, check=True, capture_output=True)
        shutil.copy(home / "id_ed25519.pub", safe.dir / "admin/keys" / f"{client}.pub")
        more += f"\n[client.{client}]" + entry.replace('"web1.pub"', f'"{client}.pub"')
    publish(safe, more)


def publish(safe, more: str) -> None:
    """Appends to the access list, the way that an administrator does it."""
    with open(safe.dir / "admin/access.toml", "a") as file:
        file.write(more)
    safe.loopback("start")


def queue(safe, client: str, each: int) -> None:
    words = [safe.programs / "nightsafe", "--config", safe.dir / "clients" / client / "client.toml"]
    for index in range(each):
        subprocess.run([*words, "submit", "dummy", f"d{index}"], env=safe.env, check=True, capture_output=True)
    done = subprocess.run([*words, "send"], env=safe.env, capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed(f"send of {client} ended with {done.returncode}: {done.stderr}")


def receipts(safe, client: str) -> int:
    repository: Path = safe.dir / "node/data" / client / "receipts.git"
    words = ["git", "-C", repository, "rev-list", "--count", "refs/heads/receipts"]
    done = subprocess.run(words, env=safe.env, capture_output=True, text=True)
    return int(done.stdout or 0)
