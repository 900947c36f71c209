"""A link that is long: a TCP relay on the loopback interface that hands everything on after a while.

As much as is sent is on its way, as on a wide link; nothing is lost and nothing comes out of order.
"""

import queue
import socket
import threading
import time


class Delay:
    """Forwards connections to `target`, a port; its own is `port`. A round trip takes `seconds` longer."""

    def __init__(self, target: int, seconds: float):
        self.target, self.one_way = target, seconds / 2
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self.listener.close()

    def _accept(self) -> None:
        while True:
            try:
                here, _ = self.listener.accept()
            except OSError:
                return
            there = socket.create_connection(("127.0.0.1", self.target))
            for end in (here, there):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for start, end in ((here, there), (there, here)):
                on_its_way: queue.SimpleQueue = queue.SimpleQueue()
                threading.Thread(target=self._take, args=(start, on_its_way), daemon=True).start()
                threading.Thread(target=self._give, args=(end, on_its_way), daemon=True).start()

    def _take(self, start: socket.socket, on_its_way: queue.SimpleQueue) -> None:
        data = b"x"
        while data:
            try:
                data = start.recv(1 << 18)
            except OSError:
                data = b""
            on_its_way.put((time.monotonic() + self.one_way, data))

    def _give(self, end: socket.socket, on_its_way: queue.SimpleQueue) -> None:
        while True:
            due, data = on_its_way.get()
            time.sleep(max(0.0, due - time.monotonic()))
            try:
                if not data:
                    end.shutdown(socket.SHUT_WR)
                    return
                end.sendall(data)
            except OSError:
                return
