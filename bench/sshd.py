"""The peers' sshd: the settings of our installation's, word for word, but for the port, the key and that it gives a shell."""

import getpass
import os
import re
import socket
import subprocess
import time
from pathlib import Path

from measure import Failed

SFTP_SERVERS = ["/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/lib/ssh/sftp-server"]


class Sshd:
    """Started by the first use of a bench, ended with it."""

    def __init__(self, folder: Path, ours: Path, env: dict[str, str]):
        folder.mkdir()
        self.dir, self.process = folder, None
        for name in ("host", "key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        config = (ours / "sshd_config").read_text()
        for key, value in {
            "Port": self.port,
            "HostKey": folder / "host",
            "PidFile": folder / "listening",
            "AuthorizedKeysFile": folder / "key.pub",
            "PermitRootLogin": "prohibit-password",
        }.items():
            config, count = re.subn(rf"^{key} .*$", f"{key} {value}", config, flags=re.MULTILINE)
            if count != 1:
                raise Failed(f"deploy/loopback.sh writes {key} {count} times into sshd_config")
        sftp = next((path for path in SFTP_SERVERS if os.path.exists(path)), "internal-sftp")
        (folder / "sshd_config").write_text(f"{config}Subsystem sftp {sftp}\n")
        host = (folder / "host.pub").read_text().split()
        (folder / "known_hosts").write_text(f"bench {host[0]} {host[1]}\n")
        (folder / "ssh_config").write_text(
            f"Host bench\n HostName 127.0.0.1\n Port {self.port}\n User {getpass.getuser()}\n IdentityFile {folder}/key\n"
            " IdentitiesOnly yes\n IdentityAgent none\n BatchMode yes\n HostKeyAlias bench\n"
            f" UserKnownHostsFile {folder}/known_hosts\n GlobalKnownHostsFile none\n ControlPath none\n LogLevel ERROR\n"
        )
        self.command = f"ssh -F {folder}/ssh_config"
        program = "/usr/sbin/sshd" if os.path.exists("/usr/sbin/sshd") else "sshd"
        with open(folder / "log", "wb") as log:
            self.process = subprocess.Popen([program, "-D", "-f", folder / "sshd_config", "-E", folder / "log"], env=env, stdout=log, stderr=log)
        end = time.monotonic() + 10
        while not (folder / "listening").exists():
            if self.process.poll() is not None or time.monotonic() > end:
                raise Failed(f"the peers' sshd does not start: {(folder / 'log').read_text()}")
            time.sleep(0.02)

    def roots(self) -> dict[int, str]:
        return {self.process.pid: "server"}
