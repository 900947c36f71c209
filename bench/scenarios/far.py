"""As `pull`, from a client that is 50 ms away: a relay makes every round trip that much longer.

OpenSSH lets 2 MiB of a connection be on their way, which bounds the others; ours opens four connections where it is far.
"""

from delay import Delay
from scenarios import pull

TREE = False
SECONDS = 0.05


def measure(bench, number):
    row = f"{bench.far} MB fetched over ssh from 50 ms away (nightsafe: the node's whole work)"
    theirs = Delay(bench.sshd.port, SECONDS)
    pull.in_turns(bench, number, bench.far, row, go_far, f"-p {theirs.port}")
    theirs.close()


def go_far(safe) -> None:
    """Lets the node reach the client through a relay."""
    port = (safe.dir / "sshd" / "port").read_text().strip()
    access = safe.dir / "admin/access.toml"
    access.write_text(access.read_text().replace(f':{port}"', f':{Delay(int(port), SECONDS).port}"'))
    safe.loopback("start")
