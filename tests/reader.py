#!/usr/bin/env python3
"""Restores a snapshot from a store folder, written from docs/format.md alone: it shares no code with the programs.

    reader.py STORE SNAPSHOT IDENTITY TARGET

Needs the programs age and zstd, and b3sum for the digests; without b3sum it says that they were not checked.
It proves that the format is what the page says. It does not check signatures, and it trusts its input not to be huge.
"""

import base64, json, os, shutil, stat, struct, subprocess, sys, tempfile

store, snapshot, identity, target = sys.argv[1:5]
work = tempfile.mkdtemp()
have_b3sum = shutil.which("b3sum") is not None


def fail(why):
    sys.exit(f"reader.py: {why}")


def run(args, data=b""):
    return subprocess.run(args, input=data, stdout=subprocess.PIPE, check=True).stdout


def scratch(name, data):
    path = os.path.join(work, name)
    with open(path, "wb") as f:
        f.write(data)
    return path


def check(named, key=b""):
    """named: list of (what, file, expected hex, maybe shortened). key: 32 bytes for the keyed hash."""
    for at in range(0, len(named) if have_b3sum else 0, 500):
        part = named[at:at + 500]
        out = run(["b3sum", "--no-names"] + (["--keyed"] if key else []) + ["--"] + [path for _, path, _ in part], key)
        for (what, _, expected), found in zip(part, out.decode().split()):
            if found[:len(expected)] != expected:
                fail(f"{what}: the digest is {found}, expected {expected}")


def check_bytes(what, data, expected, key=b""):
    check([(what, scratch("piece", data), expected.removeprefix("blake3:"))], key)


# The manifest: one line of JSON, then an age file.
manifest = open(f"{store}/snapshots/{snapshot}/manifest", "rb").read()
line, sealed_bytes = manifest.split(b"\n", 1)
public = json.loads(line)
if public["version"] != 1:
    fail("a newer version of the format")
if len(sealed_bytes) != public["sealed"]["size"]:
    fail("the sealed part has another length than the public one says")
check_bytes("sealed part", sealed_bytes, public["sealed"]["digest"])
key_file = run(["age", "-d", "-i", identity], base64.b64decode(public["epoch"]["key_file"], validate=True))
epoch = scratch("epoch", key_file)
if run(["age-keygen", "-y", epoch]).decode().strip() != public["epoch"]["recipient"]:
    fail("the key file holds another key than the manifest names")
sealed = json.loads(run(["age", "-d", "-i", epoch], sealed_bytes))
if (sealed["id"], sealed["dataset"], len(sealed["packs"])) != (public["id"], public["dataset"], len(public["packs"])):
    fail("the two parts do not belong together")
secret = bytes.fromhex(sealed["secret"])

# Packs: frames, padding, table and the table's length, all in one age file. frames: (run, number) -> [chunk, …]
where = {}
for pack, inside in zip(public["packs"], sealed["packs"]):
    for n in range(inside["frames"]):
        where[(inside["run"], inside["first"] + n)] = (pack, inside)
frames = {}


def lost(pack):
    """Whether a pack is not there, or not as it was."""
    path = f"{store}/packs/{pack['digest'].removeprefix('blake3:')}"
    if not os.path.exists(path) or os.path.getsize(path) != pack["size"]:
        return True
    return have_b3sum and run(["b3sum", "--no-names", "--", path]).decode().split()[0] != pack["digest"].removeprefix("blake3:")


def read_repairs(pack, inside):
    """Members of a lost pack, under the names that they had there, from the packs that later snapshots bring for it."""
    offers = []
    for name in os.listdir(f"{store}/snapshots"):
        path = f"{store}/snapshots/{name}/manifest"
        if os.path.exists(path):
            other = json.loads(open(path, "rb").read().split(b"\n", 1)[0])
            offers += [other] if pack["digest"] in other.get("repairs", {}).get("of", []) else []
    for number in range(inside["first"], inside["first"] + inside["frames"]):
        frames.setdefault((inside["run"], number), {})
    # The newest is taken last, and so it is what stays.
    for other in sorted(offers, key=lambda other: other["id"]):
        for repair in other["repairs"]["packs"]:
            done = subprocess.run(["age", "-d", "-i", epoch, f"{store}/packs/{repair.removeprefix('blake3:')}"], stdout=subprocess.PIPE)
            if done.returncode != 0:
                continue  # sealed to another epoch, or lost as well: what is missing is told when it is needed
            for (run_id, frame, n), data in tar_members(run(["zstd", "-dcq"], done.stdout)):
                if (run_id, frame) in frames and isinstance(frames[run_id, frame], dict):
                    frames[run_id, frame][n] = data


def tar_members(bytes_):
    """(run, frame, n) and the bytes of each member."""
    at = 0
    while at < len(bytes_):
        header = bytes_[at:at + 512]
        run_id, frame, n = header[:100].rstrip(b"\0").decode().split("/")
        size = int(header[124:136].rstrip(b"\0 "), 8)
        yield (run_id, int(frame), int(n)), bytes_[at + 512:at + 512 + size]
        at += 512 + (size + 511) // 512 * 512


def open_pack(pack, inside):
    path = f"{store}/packs/{pack['digest'].removeprefix('blake3:')}"
    if lost(pack):
        return read_repairs(pack, inside)
    plain = run(["age", "-d", "-i", epoch, path])
    magic, inner, length = struct.unpack("<IIQ", plain[-16:])
    grain = min(max(4096, (1 << len(plain).bit_length()) // 64), 65536)
    if (magic, inner, len(plain) % grain) != (0x184D2A52, 8, 0):
        fail(f"{path} does not end as packs do")
    table = plain[-16 - length:-16]
    check_bytes(f"{path}: table", table, inside["table"])
    if len(table) != 48 * inside["frames"]:
        fail(f"{path} has another number of frames")
    # zstd steps over what is in skippable frames, so one call gives all frames.
    unpacked, at = run(["zstd", "-dcq"], plain), 0
    for n in range(inside["frames"]):
        offset, compressed, size = struct.unpack("<QII", table[48 * n:48 * n + 16])
        check_bytes(f"{path}: frame {n}", plain[offset:offset + compressed], table[48 * n + 16:48 * n + 48].hex())
        frames[(inside["run"], inside["first"] + n)] = members(unpacked[at:at + size], f"{inside['run']}/{inside['first'] + n}")
        at += size
    if at != len(unpacked):
        fail(f"{path} unpacks to more than its table says")


def members(frame, name):
    """The chunks of a frame: tar members called run/frame/0, run/frame/1 and so on."""
    found = list(tar_members(frame))
    if [f"{run_id}/{number}/{n}" for (run_id, number, n), _ in found] != [f"{name}/{n}" for n in range(len(found))]:
        fail(f"frame {name} holds a member with another name")
    return [data for _, data in found]


def chunk(run_id, frame, n):
    if (run_id, frame) not in frames:
        if (run_id, frame) not in where:
            fail(f"{run_id}/{frame} is in none of the packs")
        open_pack(*where[(run_id, frame)])
    found = frames[(run_id, frame)]
    if n not in found if isinstance(found, dict) else n >= len(found):
        fail(f"{run_id}/{frame}/{n} is lost, and no repair has it")
    return found[n]


def chunks(text):
    """The chunks that a list of references names, in order."""
    run_id = None
    for item in text.split(",") if text else []:
        *first, frame, part = item.split("/")
        run_id = first[0] if first else run_id
        if "*" in part:
            n, count = map(int, part.split("*"))
            numbers = [n] * count
        else:
            low, _, high = part.partition("-")
            numbers = range(int(low), int(high or low) + 1)
        for n in numbers:
            yield chunk(run_id, int(frame), n)


def raw(entry, key):
    return base64.b64decode(entry[key + "_b64"], validate=True) if key + "_b64" in entry else entry[key].encode()


def lines(ref, ident, level, first=None):
    """The entries below a segment of the catalog; each segment is checked against its id and its first path."""
    segment = b"".join(chunks(ref))
    check_bytes(f"segment {ref}", segment, ident, secret)
    for text in segment.splitlines():
        item = json.loads(text)
        if first not in (None, raw(item, "first" if level else "path")):
            fail(f"segment {ref} does not begin as its parent says")
        first = None
        if level == 0:
            yield item
        else:
            yield from lines(item["ref"], item["id"], level - 1, raw(item, "first"))


KEYS = set(
    "path path_b64 type mode uid gid user group mtime size chunks more digest data holes holes_more hard_link target target_b64"
    " major minor acl default_acl acl_names xattrs xattrs_b64 xattrs_more".split())


def text_of(entry, key):
    """A list that stands in the entry, or in chunks of its own."""
    return b"".join(chunks(entry[key + "_more"])).decode() if key + "_more" in entry else entry.get(key, "")


def write(f, entry):
    """The content, put around the holes; its digest is that of the content alone."""
    text = b"".join(chunks(entry["more"])).decode() if "more" in entry else entry.get("chunks", "")
    holes = [tuple(map(int, hole.split("+"))) for hole in text_of(entry, "holes").split(",") if hole]
    if entry.get("data", entry["size"]) + sum(length for _, length in holes) != entry["size"]:
        fail(f"the holes of {f.name} do not fit its size")
    at, seen, sparse = 0, 0, bool(holes)
    with open(os.path.join(work, "content"), "wb") as plain:
        for part in chunks(text):
            seen += len(part)
            if sparse:
                plain.write(part)
            while part:
                while holes and holes[0][0] == at:
                    at += holes.pop(0)[1]
                now = part[:holes[0][0] - at] if holes else part
                os.pwrite(f.fileno(), now, at)
                at, part = at + len(now), part[len(now):]
    os.ftruncate(f.fileno(), entry["size"])
    if seen != entry.get("data", entry["size"]):
        fail(f"{f.name} has {seen} bytes of content instead of {entry.get('data', entry['size'])}")
    if sparse:
        check([(f.name, plain.name, entry["digest"])], secret)
    else:
        digests.append((f.name, f.name, entry["digest"]))


def acl(text):
    """An access control list as Linux takes it."""
    tags = {"user:": 1, "user": 2, "group:": 4, "group": 8, "mask:": 16, "other:": 32}
    out = struct.pack("<I", 2)
    for item in text.split(","):
        who, bits = item.rsplit(":", 1)
        kind, number = who.split(":")
        tag = tags[who] if who in tags else tags[kind]
        bits = sum(bit for bit, letter in zip((4, 2, 1), bits) if letter != "-")
        out += struct.pack("<HHI", tag, bits, int(number) if number else 0xFFFFFFFF)
    return out


def dress(full, entry, link=False):
    """Owner, attributes, lists, mode, time. As root all of it; otherwise what one may."""
    def attempt(what, *args, **more):
        try:
            what(*args, **more)
        except OSError:
            if os.geteuid() == 0:
                raise
    if os.geteuid() == 0:
        os.chown(full, entry["uid"], entry["gid"], follow_symlinks=False)
    xattrs = json.loads(text_of(entry, "xattrs")) if "xattrs_more" in entry else entry
    for name, value in xattrs.get("xattrs", {}).items():
        attempt(os.setxattr, full, name, base64.b64decode(value, validate=True), follow_symlinks=False)
    for name, value in xattrs.get("xattrs_b64", {}).items():
        name = base64.b64decode(name, validate=True)
        attempt(os.setxattr, full, name, base64.b64decode(value, validate=True), follow_symlinks=False)
    for key, name in (("acl", "access"), ("default_acl", "default")):
        if key in entry:
            attempt(os.setxattr, full, "system.posix_acl_" + name, acl(entry[key]), follow_symlinks=False)
    if not link:
        os.chmod(full, int(entry["mode"], 8))
    seconds, nanos = entry["mtime"].split(".")
    os.utime(full, ns=(int(seconds) * 10**9 + int(nanos),) * 2, follow_symlinks=False)


root = sealed["root"]
base, last, folders, links = os.fsencode(os.path.abspath(target)), None, [], {}
digests = []
os.makedirs(os.path.dirname(base), exist_ok=True)
for entry in lines(root["ref"], root["id"], root["level"]):
    if not KEYS.issuperset(entry):
        fail(f"a newer nightsafe wrote this: {set(entry) - KEYS}")
    path = raw(entry, "path")
    if last is None and path:
        os.mkdir(base, 0o700)
    if last is not None and path <= last or path.startswith(b"/") or b".." in path.split(b"/"):
        fail(f"{path} is not in its place")
    last = path
    full = os.path.join(base, path.rstrip(b"/")) if path else base
    first = links.setdefault(entry["hard_link"], full) if "hard_link" in entry else full
    if first != full:
        os.link(first, full, follow_symlinks=False)
    elif entry["type"] == "dir":
        os.mkdir(full, 0o700)
        folders.append((full, entry))
    elif entry["type"] == "link":
        os.symlink(raw(entry, "target"), full)
        dress(full, entry, link=True)
    elif entry["type"] == "fifo":
        os.mkfifo(full, 0o600)
        dress(full, entry)
    elif entry["type"] in ("char", "block"):
        kind = stat.S_IFCHR if entry["type"] == "char" else stat.S_IFBLK
        os.mknod(full, 0o600 | kind, os.makedev(entry["major"], entry["minor"]))
        dress(full, entry)
    elif entry["type"] == "file":
        with open(full, "xb") as f:
            write(f, entry)
        dress(full, entry)
    else:
        fail(f"{full} is of a type that this reader does not know")
check(digests, secret)
for full, entry in reversed(folders):
    dress(full, entry)
shutil.rmtree(work)
print(f"{public['counts']['entries']} entries restored" + ("" if have_b3sum else "; digests were not checked: there is no b3sum"))
