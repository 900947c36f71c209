"""A link that can be cut and stalled: a TCP relay on the loopback interface.

Knows nothing of what goes through it.
"""

import selectors
import socket
import threading
import time


class Relay:
    """Forwards connections to `target`, a port; its own port is `port`."""

    def __init__(self, target: int):
        self.target = target
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.lock = threading.Lock()
        self.pairs: list[tuple[socket.socket, socket.socket]] = []
        self.down_until = self.stalled_until = 0.0
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, seconds: float) -> None:
        """Ends all connections, and takes no new ones for a while."""
        self.down_until = time.monotonic() + seconds
        with self.lock:
            for pair in self.pairs:
                for end in pair:
                    _shut(end)

    def stall(self, seconds: float) -> None:
        """Moves nothing for a while, and ends nothing."""
        self.stalled_until = time.monotonic() + seconds

    def heal(self) -> None:
        self.down_until = self.stalled_until = 0.0

    def _accept(self) -> None:
        while True:
            here, _ = self.listener.accept()
            try:
                if time.monotonic() < self.down_until:
                    raise OSError("down")
                there = socket.create_connection(("127.0.0.1", self.target), timeout=10)
            except OSError:
                here.close()
                continue
            there.settimeout(None)
            for end in (here, there):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.lock:
                self.pairs.append((here, there))
            threading.Thread(target=self._forward, args=(here, there), daemon=True).start()

    def _forward(self, here: socket.socket, there: socket.socket) -> None:
        with selectors.DefaultSelector() as ends:
            ends.register(here, selectors.EVENT_READ, there)
            ends.register(there, selectors.EVENT_READ, here)
            try:
                while ends.get_map():
                    for key, _ in ends.select():
                        while time.monotonic() < self.stalled_until:
                            time.sleep(0.02)
                        if data := key.fileobj.recv(65536):
                            key.data.sendall(data)
                        else:
                            ends.unregister(key.fileobj)
                            key.data.shutdown(socket.SHUT_WR)
            except OSError:
                pass
        with self.lock:
            self.pairs.remove((here, there))
        for end in (here, there):
            _shut(end)
            end.close()


def _shut(end: socket.socket) -> None:
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
