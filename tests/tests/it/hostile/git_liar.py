"""Speaks git's protocol, version 2, in the place of git-upload-pack, and lies in one way: python3 git_liar.py WAY REPOSITORY"""

import subprocess
import sys
import time

way, repository = sys.argv[1:3]
out, heard = sys.stdout.buffer, sys.stdin.buffer
FLUSH, DELIM = b"0000", b"0001"


def git(*arguments, given=b""):
    return subprocess.run(["git", "-C", repository, *arguments], input=given, capture_output=True, check=True).stdout


def packet(data):
    return data if data in (FLUSH, DELIM) else b"%04x" % (len(data) + 4) + data


def say(*packets):
    out.write(b"".join(map(packet, packets)))
    out.flush()


def without_end(*packets):
    while True:
        say(*packets)
        time.sleep(0.01)


def hear():
    lines = []
    while True:
        length = int(heard.read(4) or sys.exit(0), 16)
        if length == 0:
            return lines
        if length > 4:
            lines.append(heard.read(length - 4).strip())


def bands(pack):
    return [b"\x01" + pack[at : at + 60000] for at in range(0, len(pack), 60000)]


def refs():
    if way == "lists names that cannot be":
        say(b"%040d refs/heads/../../x\n" % 1, FLUSH)
    elif way == "lists what is no id":
        say(b"--upload-pack=x refs/heads/x\n", FLUSH)
    elif way == "lists without an end":
        without_end(*(b"%040d refs/heads/%d\n" % (n, n) for n in range(100)))
    else:
        lines = git("for-each-ref", "--format=%(objectname) %(refname)").splitlines(keepends=True)
        say(*lines, FLUSH)


def objects(wants):
    """The ids that the pack is made of, and nothing that they lead to where the lie is that."""
    if way in ("sends commits alone", "says that the history is cut off"):
        return wants
    return git("rev-list", "--objects", "--no-object-names", *(want.decode() for want in wants)).split()


def serve(request):
    wants = [line[5:] for line in request if line.startswith(b"want ")]
    before = [] if b"done" in request else [b"acknowledgments\n", b"ready\n", DELIM]
    if way == "acknowledges without an end":
        have = next(line[5:] for line in request if line.startswith(b"have "))
        say(b"acknowledgments\n")
        without_end(*[b"ACK " + have + b"\n"] * 100)
    if way == "says that the history is cut off":
        before += [b"shallow-info\n", *(b"shallow " + want + b"\n" for want in wants), DELIM]
    if way == "gives refs that nobody wanted":
        before += [b"wanted-refs\n", wants[0] + b" refs/heads/main\n", DELIM]
    if way.startswith("names another place "):
        before += [b"packfile-uris\n", b"%040d " % 1 + way.rsplit(" ", 1)[1].encode() + b"\n", DELIM]
    pack = git("pack-objects", "--stdout", "-q", given=b"".join(id + b"\n" for id in objects(wants)))
    if way == "goes on behind the pack":
        pack += b"x" * 100_000
    say(*before, b"packfile\n")
    if way == "tells its progress without an end":
        without_end(b"\x02" + b"\x1b[2Jcounting\r" * 1000)
    if way == "has a channel that there is not":
        say(b"\x09" + pack)
    if way == "says that it failed":
        say(b"\x03\x1b[2Jout of luck\n")
        sys.exit(1)
    if way == "has a packet that is too long":
        out.write(b"ffff" + b"\x01" * 65531)
    if way == "rests in the middle":
        say(b"\x01" + pack[: len(pack) // 2])
        time.sleep(30)
    say(*bands(pack), FLUSH)


say(b"version 2\n", b"agent=git/9\n", b"ls-refs=unborn\n", b"fetch=shallow wait-for-done ref-in-want packfile-uris\n", b"object-format=sha1\n", FLUSH)
while True:
    request = hear()
    if not request:
        sys.exit(0)
    if request[0] == b"command=ls-refs":
        refs()
    else:
        serve(request)
