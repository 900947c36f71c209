"""A pgbench database, then the same with 1 % of its accounts, contiguous, updated: what the second dump adds.

restic gets the very stream that our module makes of the database (`pg_dump --format=custom --compress=0`).
"""

import os
import shutil
import subprocess
from pathlib import Path

import contenders
from measure import Failed, run
from run import settle_disk
from safe import size

TREE = False
ACCOUNTS = 100_000  # for each unit of scale


def measure(bench, number):
    if not list(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or not shutil.which("pgbench"):
        return bench.skip("PostgreSQL's server or pgbench is not installed")
    cluster = Cluster(bench.new("pg"), bench.env)
    safe = bench.safe(watch=True)
    safe.loopback("stop")
    safe.configure(f'\n[module.postgres]\nhost = "{cluster.dir}"\nuser = "postgres"\n')
    safe.loopback("watch")
    safe.submit("dummy", "warm")
    restic = contenders.Restic(bench, bench.new("restic"), "ssh") if shutil.which("restic") else None
    try:
        cluster.fill(bench.scale)
        steps = [("first dump", None), ("second dump, 1 % of the accounts changed", bench.scale * ACCOUNTS // 2)]
        for row, first in steps:
            if first:
                cluster.sql(f"UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid > {first} AND aid <= {first + bench.scale * ACCOUNTS // 100}")
            dump = bench.new("dump")
            cluster.dump(dump)
            bench.record(f"PostgreSQL, {row}: size of the dump", "dump", number, dump.stat().st_size, "bytes")
            if restic:
                before = restic.stored()
                settle_disk()
                with open(dump, "rb") as file:
                    done = restic.save_stream(file)
                bench.record(f"PostgreSQL, {row} (restic: reading it from a file)", "restic", number, done)
                bench.record(f"PostgreSQL, {row}: stored more", "restic", number, restic.stored() - before, "bytes")
            dump.unlink()
            before = size(safe.dir / "node/data/web1")
            settle_disk()
            done = safe.submit("postgres", "bench")
            safe.settle()
            bench.record(f"PostgreSQL, {row} (restic: reading it from a file)", "nightsafe", number, done)
            bench.record(f"PostgreSQL, {row}: stored more", "nightsafe", number, size(safe.dir / "node/data/web1") - before, "bytes")
    finally:
        cluster.close()
    safe.close()
    if restic:
        restic.close()


class Cluster:
    """A PostgreSQL server without a port. As root it runs under PostgreSQL's own account, because it refuses root."""

    def __init__(self, folder: Path, env):
        self.dir, self.bin = folder, sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1]
        self.env = {**env, "PGHOST": str(folder), "PGUSER": "postgres"}
        folder.mkdir()
        self.runuser = []
        if os.getuid() == 0:
            shutil.chown(folder, "postgres")
            self.runuser = ["runuser", "-u", "postgres", "--"]
        self.server("initdb", "-D", folder / "data", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-sync")
        options = f"-k {folder} -c listen_addresses='' -c fsync=off"
        self.server("pg_ctl", "-D", folder / "data", "-w", "-l", folder / "log", "-o", options, "start")

    def server(self, program, *words):
        with open(self.dir.parent / "pg.out", "w+") as out:  # a pipe would be held by the server
            done = subprocess.run([*self.runuser, self.bin / program, *words], env=self.env, cwd="/", stdin=subprocess.DEVNULL, stdout=out, stderr=out)
            if done.returncode != 0:
                out.seek(0)
                raise Failed(f"{program}: {out.read()}")

    def client(self, *words):
        return run(list(words), self.env)

    def fill(self, scale):
        self.client("createdb", "bench")
        self.client("pgbench", "-q", "-i", "-s", str(scale), "bench")
        # What a server does by itself some time after such a load: without it the first dump differs from all later ones.
        self.sql("VACUUM ANALYZE")

    def sql(self, text):
        self.client("psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-d", "bench", "-c", text)

    def dump(self, file):
        self.client("pg_dump", "--format=custom", "--compress=0", "-f", file, "bench")

    def close(self):
        self.server("pg_ctl", "-D", self.dir / "data", "-m", "immediate", "stop")
        shutil.rmtree(self.dir)
