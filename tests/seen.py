#!/usr/bin/env python3
"""Prints all that stat, getfattr and getfacl see of a folder (or file) and of everything in it, a line each, sorted.

    seen.py FOLDER

Two trees are the same when the outputs are. Of files it also tells where they have data and what that is, and of things
with several names which names belong together. Sockets are left out, as backups leave them out. Paths may be of any
length: what is too deep for the kernel's longest path is looked at from a folder on the way down.
"""

import hashlib, os, stat, subprocess, sys

LONGEST = 2000  # bytes of a path, from where it is looked at
AT_ONCE = 300  # names a program is given at once

found = {}  # path -> what is told of it
names = {}  # (device, inode) -> paths


def tell(path, text):
    found.setdefault(path, []).append(text)


def run(*args, ok=(0,)):
    done = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "LC_ALL": "C", "TZ": "UTC"})
    if done.returncode not in ok:
        sys.exit(f"seen.py: {args[0]}: {done.stderr.decode(errors='replace')}")
    return done.stdout


def data(name):
    """Where a file has data, and a digest of it all."""
    extents, digest, at = [], hashlib.sha256(), 0
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    end = os.fstat(fd).st_size
    while at < end:
        try:
            begin = os.lseek(fd, at, os.SEEK_DATA)
        except OSError:
            break
        at = os.lseek(fd, begin, os.SEEK_HOLE)
        extents.append(f"{begin}-{at}")
        for offset in range(begin, at, 1 << 20):
            digest.update(os.pread(fd, min(1 << 20, at - offset), offset))
    os.close(fd)
    return f"data {','.join(extents)} {digest.hexdigest()[:32]}"


def look(above, things):
    """things: names as seen from the working directory, with lstat's results."""
    for at in range(0, len(things), AT_ONCE):
        part = [name for name, _ in things[at:at + AT_ONCE]]
        path = lambda name: os.path.normpath(os.path.join(above, name))
        # %f is type and mode, %t:%T a device's numbers; a folder's size says nothing of what is in it.
        for name, line in zip(part, run("stat", "--printf=%f %u:%g %.9Y %t:%T %h\\0", "--", *part).split(b"\0")):
            tell(path(name), f"stat {line.decode()}")
        blocks = run("getfattr", "-P", "-h", "-d", "-m", "-", "-e", "hex", "--absolute-names", "--", *part).split(b"\n\n")
        for block in filter(None, blocks):
            first, *lines = block.strip(b"\n").split(b"\n")
            name = first.removeprefix(b"# file: ")
            tell(path(plain(name)), "getfattr " + " ".join(sorted(line.decode("latin-1") for line in lines)))
        listed = [name for name, one in things[at:at + AT_ONCE] if not stat.S_ISLNK(one.st_mode)]
        if listed:
            for name, block in zip(listed, run("getfacl", "-P", "-n", "-p", "-c", "--", *listed).split(b"\n\n")):
                tell(path(name), "getfacl " + " ".join(block.decode().split()))
    for name, one in things:
        path = os.path.normpath(os.path.join(above, name))
        if stat.S_ISLNK(one.st_mode):
            tell(path, f"link {os.readlink(name)!r}")
        if stat.S_ISREG(one.st_mode):
            tell(path, f"size {one.st_size} {data(name)}")
        if not stat.S_ISDIR(one.st_mode) and one.st_nlink > 1:
            names.setdefault((one.st_dev, one.st_ino), []).append(path)


def plain(name):
    """getfattr writes some bytes of a name in octal."""
    out, at = bytearray(), 0
    while at < len(name):
        if name[at:at + 1] == b"\\" and name[at + 1:at + 4].isdigit():
            out.append(int(name[at + 1:at + 4], 8))
            at += 4
        else:
            out.append(name[at])
            at += 1
    return bytes(out)


def walk(above):
    """Everything in the working directory, and what is too far below it for one path."""
    things, deep, waiting = [(b".", os.lstat("."))], [], [b"."]
    while waiting:
        folder = waiting.pop()
        for name in sorted(os.listdir(folder)):
            name = os.path.join(folder, name)
            one = os.lstat(name)
            if stat.S_ISSOCK(one.st_mode):
                continue
            if stat.S_ISDIR(one.st_mode) and len(name) > LONGEST:
                deep.append(name)
                continue
            things.append((name, one))
            if stat.S_ISDIR(one.st_mode):
                waiting.append(name)
    look(above, things)
    for name in deep:
        here = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
        os.chdir(name)
        walk(os.path.join(above, name))
        os.fchdir(here)
        os.close(here)


target = os.fsencode(sys.argv[1])
if os.path.isdir(target):
    os.chdir(target)
    walk(b"")
else:
    folder, name = os.path.split(os.path.abspath(target))
    os.chdir(folder)
    look(b"", [(b"./" + name, os.lstat(name))])
    found = {b".": lines for lines in found.values()}
for group in names.values():
    for path in group:
        tell(path, f"names {sorted(group)!r}")
for path in sorted(found):
    print(repr(path)[2:-1], " | ".join(found[path]))
