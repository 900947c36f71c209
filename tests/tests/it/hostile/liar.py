"""An sftp server that serves a folder and lies in one way: liar.py FOLDER WAY. Version 3 of the protocol, as far as a node asks."""

import os
import struct
import sys
import time

folder, way = sys.argv[1:3]
stdin, stdout = sys.stdin.buffer, sys.stdout.buffer
INIT, VERSION, OPEN, CLOSE, READ, LSTAT, FSTAT, STAT = 1, 2, 3, 4, 5, 7, 8, 17
STATUS, HANDLE, DATA, ATTRS = 101, 102, 103, 105


def stall():
    time.sleep(600)


def send(kind, body):
    stdout.write(struct.pack(">IB", len(body) + 1, kind) + body)
    stdout.flush()


def text(data):
    return struct.pack(">I", len(data)) + data


def status(request, code):
    send(STATUS, request + struct.pack(">I", code) + text(b"") + text(b""))


def take(n):
    data = stdin.read(n)
    if len(data) < n:
        sys.exit(0)
    return data


if way == "ends at once":
    sys.exit(0)
if way == "is silent":
    stall()
if way == "says nonsense":
    stdout.write(os.urandom(1 << 16))
    stdout.flush()
    stall()
if way == "says four gigabytes come":
    stdout.write(b"\xff\xff\xff\xff" + b"\x02" * 1000)
    stdout.flush()
    stall()
if way == "never ends its greeting":
    try:
        stdout.write(struct.pack(">IBI", 1 << 24, VERSION, 3))
        while True:
            stdout.write(b"x" * 65536)
    except BrokenPipeError:
        sys.exit(0)
if way == "floods the other channel":
    while True:
        try:
            os.write(2, b"\x1b[2Jx" * 10000)
        except OSError:
            sys.exit(0)

files, reads = {}, 0
while True:
    length, kind = struct.unpack(">IB", take(5))
    body = take(length - 1)
    if kind == INIT:
        send(VERSION, struct.pack(">I", 99 if way == "speaks version 99" else 3))
        continue
    request, rest = body[:4], body[4:]
    if way == "answers what was not asked":
        request = struct.pack(">I", struct.unpack(">I", request)[0] + 7)
    if way == "answers all with success":
        status(request, 0)
        continue
    if kind == OPEN:
        name = os.path.basename(rest[4 : 4 + struct.unpack(">I", rest[:4])[0]])
        path = os.path.join(folder.encode(), name)
        if not os.path.isfile(path):
            status(request, 2)
            continue
        handle = b"h" * 100000 if way == "has a long handle" else str(len(files)).encode()
        files[handle] = open(path, "rb")
        send(HANDLE, request + text(handle))
        if way == "stalls once a file is open":
            stall()
    elif kind in (FSTAT, STAT, LSTAT):
        handle = rest[4 : 4 + struct.unpack(">I", rest[:4])[0]]
        size = os.fstat(files[handle].fileno()).st_size if handle in files else 1
        size = {"says that files are huge": 1 << 62, "says that files are empty": 0}.get(way, size)
        if way == "tells no size":
            send(ATTRS, request + struct.pack(">I", 0))
        else:
            send(ATTRS, request + struct.pack(">IQ", 1, size))
    elif kind == READ:
        at = 4 + struct.unpack(">I", rest[:4])[0]
        file, (offset, count) = files[rest[4:at]], struct.unpack(">QI", rest[at : at + 12])
        file.seek(offset)
        data = file.read(count)
        reads += 1
        if way == "gives other bytes":
            data = bytes(byte ^ 1 for byte in data)
        elif way == "gives more than was asked":
            data += b"x" * 100000
        elif way == "gives nothing and no end":
            data = b""
        elif way == "gives a byte at a time and rests":
            data = data[:1]
            time.sleep(0.5)
        elif way == "goes on after the end":
            data = data.ljust(count, b"x")
        elif way == "says the end at once":
            data = None
        elif way == "stalls in the middle" and reads > 4:
            stall()
        elif way == "hangs up in the middle" and reads > 4:
            sys.exit(0)
        elif way == "says that data is longer than its packet":
            stdout.write(struct.pack(">IB", 13, DATA) + request + struct.pack(">I", 1 << 30) + b"xxxx")
            stdout.flush()
            continue
        if not data and way != "gives nothing and no end":
            status(request, 1)
        else:
            send(DATA, request + text(data))
    elif kind == CLOSE:
        status(request, 0)
    else:
        status(request, 8)
