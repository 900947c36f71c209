"""Makes an archive as no honest client does, by docs/format.md: python3 bomb.py WAY ID

Reads `template` (the manifest of an honest snapshot) and `epoch.secret` (the chunk secret, in hex); writes `manifest`, and packs into
the client's export folder.
"""

import json
import os
import struct
import subprocess
import sys
import tarfile

way, id = sys.argv[1:3]
secret = bytes.fromhex(open("epoch.secret").read())
public = json.loads(open("template", "rb").readline())
DATA, CATALOG = "00000000000000da", "00000000000000ca"
MiB = 1 << 20


def run(*command, given=b""):
    return subprocess.run(command, input=given, capture_output=True, check=True).stdout


def b3(data):
    return run("b3sum", "--no-names", given=data).decode().strip()


def keyed(data):
    with open("hashed", "wb") as file:
        file.write(data)
    return run("b3sum", "--no-names", "--keyed", "hashed", given=secret).decode().strip()


def seal(data):
    return run("age", "-r", public["epoch"]["recipient"], given=data)


def member(run_, frame, n, data):
    info = tarfile.TarInfo(f"{run_}/{frame}/{n}")
    info.size, info.mode = len(data), 0o600
    return info.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % 512)


def compressed(frame):
    return run("zstd", "-q", "-c", "--no-check", given=frame), len(frame)


def skippable(n, data):
    return struct.pack("<II", 0x184D2A50 + n, len(data)) + data


def pack(run_, frames, length=None):
    """Frames as compressed and as long as they are said to be."""
    rows, offset = b"", 0
    for data, plain in frames:
        rows += struct.pack("<QII", offset, len(data), plain) + bytes.fromhex(b3(data))
        offset += len(data)
    padding = -(offset + 3 * 8 + len(rows) + 8) % 65536
    plain = b"".join(data for data, _ in frames) + skippable(0, bytes(padding)) + skippable(1, rows)
    plain += skippable(2, struct.pack("<Q", len(rows) if length is None else length))
    bytes_ = seal(plain)
    digest = b3(bytes_)
    with open(f"client/export/node1/{id}.{digest}", "wb") as file:
        file.write(bytes_)
    named = {"digest": "blake3:" + digest, "size": len(bytes_)}
    return named, {"run": run_, "first": 0, "frames": len(frames), "table": "blake3:" + b3(rows)}


def entry(path, kind, **more):
    mode = "0755" if kind == "dir" else "0644"
    uid, gid = os.getuid(), os.getgid()
    return {"path": path, "type": kind, "mode": mode, "uid": uid, "gid": gid, "mtime": "1700000000.000000000", **more}


def file(path, **more):
    return entry(path, "file", **{"size": 5, "chunks": f"{DATA}/0/0", "digest": keyed(b"right")[:32], **more})


data = [compressed(member(DATA, 0, 0, b"right"))]
length, levels, bytes_said = None, 1, None
entries = [entry("", "dir"), file("a")]
if way == "a frame unfolds to a gigabyte":
    zeros = subprocess.run("head -c 1G /dev/zero | zstd -q -c --no-check", shell=True, capture_output=True, check=True).stdout
    data = [(zeros, 8 * MiB)]
elif way == "a frame is said to be four gigabytes":
    data = [(data[0][0], (1 << 32) - 1)]
elif way == "a table is said to be eight exabytes":
    length = 1 << 63
elif way == "a file of four exabytes":
    entries.append(file("huge", size=1 << 62, chunks=f"{DATA}/0/0*{(1 << 62) // 5}", digest="00" * 16))
    bytes_said = 5
elif way == "entries unfold":
    list_ = f"{DATA}/7/0" + ",7/0" * 60_000
    entries += [file(f"file-{n:03}", chunks=list_, digest="00" * 16) for n in range(60)]
elif way == "names lead out":
    entries += [file("../out"), file("/tmp/nightsafe-out"), entry("b", "link", target="../.."), file("b/out")]
elif way == "levels without an end":
    levels = 30

# Each line in a segment of its own; a level above lists them. Then one line a level.
frames, segments = [], []


def store(text):
    segments.append(f"{CATALOG}/{len(frames)}/0")
    frames.append(compressed(member(CATALOG, len(frames), 0, text)))
    return keyed(text)


def line(value):
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


children = []
for one in sorted(entries, key=lambda one: one["path"].encode()):
    key = store(line(one))
    children.append({"first": one["path"], "ref": segments[-1], "id": key})
if way == "the catalog leads to the same place":
    children += [children[-1]] * 1000
root = store(b"".join(map(line, children)))
for _ in range(1, levels):
    root = store(line({"first": "", "ref": segments[-1], "id": root}))
packs = [pack(DATA, data, length), pack(CATALOG, frames)]
sealed = {
    "version": 1,
    "id": id,
    "dataset": public["dataset"],
    "secret": secret.hex(),
    "root": {"ref": segments[-1], "id": root, "level": levels},
    "packs": [sealed for _, sealed in packs],
    "unreadable": [],
    "tags": [],
    "stream": False,
    "time": "2026-11-20T03:15:00Z",
}
sealed = seal(line(sealed))
sizes = sum(one.get("size", 0) for one in entries)
public |= {
    "id": id,
    "packs": [named for named, _ in packs],
    "counts": {"entries": len(entries), "files": len(entries) - 1, "bytes": sizes if bytes_said is None else bytes_said, "unreadable": 0},
    "sealed": {"digest": "blake3:" + b3(sealed), "size": len(sealed)},
}
public.pop("repairs", None)
with open("manifest", "wb") as file_:
    file_.write(line(public) + sealed)
