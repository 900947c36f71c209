"""A machine that dials its node and lies: dial_liar.py WAY COMMAND… (the command opens one line), or, in the place of the gate,
dial_liar.py WAY --socket PATH."""

import concurrent.futures
import os
import socket
import struct
import subprocess
import sys
import threading
import time

way, command = sys.argv[1], sys.argv[2:]
WAITING, JOINED, LEAVE, COMMAND, ACCEPTED, DATA, CLOSED, WORDS, ENDED = range(1, 10)


class Line:
    """One line, by ssh or straight to the poller."""

    def __init__(self, hello=b"web1\n"):
        if command[0] == "--socket":
            self.end = socket.socket(socket.AF_UNIX)
            self.end.connect(command[1])
            self.end.sendall(hello)
            self.reader = self.end.makefile("rb")
            self.send = self.end.sendall
        else:
            self.end = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            self.reader = self.end.stdout
            self.send = self.write
            # The gate says that it has the line.
            self.hear()
            open("liar.up", "w").close()

    def write(self, data):
        self.end.stdin.write(data)
        self.end.stdin.flush()

    def say(self, kind, content=b""):
        self.send(struct.pack(">BI", kind, len(content)) + content)

    def hear(self):
        head = self.reader.read(5)
        if len(head) < 5:
            return None, b""
        kind, length = struct.unpack(">BI", head)
        return kind, self.reader.read(length)

    def command(self):
        """What the node asks for; None when the line ends before."""
        while True:
            kind, content = self.hear()
            if kind in (None, COMMAND):
                return content if kind else None


def lied():
    """What it is for is done, or begun: whoever waits for that may go on."""
    open("liar.lied", "w").close()


def stall():
    lied()
    time.sleep(600)


def hold(line):
    """The line is used up when the node closes it."""
    while line.hear()[0] is not None:
        pass


def for_ever(content, kind, line):
    try:
        while True:
            line.say(kind, content)
            lied()
    except (BrokenPipeError, ConnectionError):
        pass


def other_bytes(line, verb):
    """The honest answer of an sftp server that serves a folder, but for the bytes."""
    folder = os.environ["EXPORTED"]
    liar = os.path.join(os.path.dirname(os.path.abspath(__file__)), "liar.py")
    sftp = subprocess.Popen(["/usr/bin/python3", liar, folder, "gives other bytes"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def back():
        while chunk := os.read(sftp.stdout.fileno(), 65536):
            line.say(DATA, chunk)
        line.say(ENDED, b"\0")

    threading.Thread(target=back, daemon=True).start()
    while True:
        kind, content = line.hear()
        if kind != DATA:
            break
        sftp.stdin.write(content)
        sftp.stdin.flush()
    sftp.kill()


def answer(line, verb):
    if way == "never takes the command":
        return stall()
    if way == "hangs up at the command":
        return lied()
    if way == "says a frame of four gigabytes":
        return line.send(b"\x05\xff\xff\xff\xff") or stall()
    if way == "says a frame that there is not":
        return line.send(b"\x63\x00\x00\x00\x00") or stall()
    if way == "says half a frame":
        return line.send(b"\x05\x00\x00") or stall()
    if way == "says slowly that it takes the command":
        line.send(struct.pack(">BI", ACCEPTED, 65536))
        lied()
        while True:
            line.send(b"x")
            time.sleep(0.2)
    if way == "sends a command itself":
        return line.say(COMMAND, b"\nsftp") or stall()
    if way == "ends what it has not taken":
        return line.say(ENDED, b"\0") or stall()
    line.say(ACCEPTED)
    if way == "takes the command and is silent":
        stall()
    elif way == "takes the command twice":
        line.say(ACCEPTED)
        stall()
    elif way == "ends at once":
        line.say(ENDED, b"\0")
        lied()
    elif way == "floods words":
        for_ever(b"\x1b[2J" * 16000, WORDS, line)
    elif way == "floods data":
        for_ever(b"\xff" * 65536, DATA, line)
    elif way == "floods nothing":
        for_ever(b"", DATA, line)
    elif way == "sends a byte at a time":
        while True:
            line.say(DATA, b"\0")
            lied()
            time.sleep(0.2)
    elif way == "hangs up in the middle":
        line.say(DATA, b"\0\0\0\x05\x02\0\0\0\x03")
        lied()
    elif way == "gives other bytes":
        other_bytes(line, verb)
    else:
        sys.exit(f"no such way: {way}")


def one(hello=b"web1\n"):
    line = Line(hello)
    if way == "speaks before it is asked":
        line.say(DATA, b"x" * 100)
        return stall()
    verb = line.command()
    if verb is not None:
        answer(line, verb)


def tried(what):
    """A line that the other end closes is one of many."""
    try:
        return what()
    except (BrokenPipeError, ConnectionError):
        return None


def many(count, hello):
    with concurrent.futures.ThreadPoolExecutor(8) as openers:
        lines = list(openers.map(lambda n: tried(lambda: Line(hello(n))), range(count)))
    stall()
    return lines


def come_and_go():
    Line()
    lied()


try:
    if way == "opens thirty lines and answers none":
        many(30, lambda n: b"web1\n")
    elif way == "comes five hundred times and says nothing":
        many(500, lambda n: b"")
    elif way == "comes with every name but the right one":
        many(100, lambda n: [b"web2\n", b"?\n", b"../web1\n", b"web1\nweb1\n", b"\xff\n", b"admin\n", b"x" * 200][n % 7])
    elif way == "opens and closes lines without end":
        while True:
            tried(come_and_go)
    else:
        while True:
            tried(one)
            time.sleep(0.05)
except FileNotFoundError:
    # The poller is gone, and its socket.
    pass
