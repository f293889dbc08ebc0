"""Which programs a daemon starts: the kernel's process events (cn_proc), heard on a netlink socket."""

import os
import pathlib
import socket
import struct
import threading

NETLINK_CONNECTOR = 11
CN_IDX_PROC = CN_VAL_PROC = 1
LISTEN, IGNORE = 1, 2
EVENT_FORK, EVENT_EXEC = 1, 2
HEADERS = 16 + 20  # struct nlmsghdr, struct cn_msg
EVENT = struct.Struct("=IIQ")  # what, cpu, nanoseconds; then the event's own


class ProcessEvents:
    """While it is entered, follows the descendants of the process `root`. Afterwards `programs` has
    (name of the program, name of the program that started it) of each of them that executed one."""

    def __init__(self, root):
        self.root = root
        self.parents, self.names = {}, {}
        self.programs = []
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, NETLINK_CONNECTOR)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self.socket.bind((0, CN_IDX_PROC))
        self.socket.settimeout(0.2)
        self.thread = threading.Thread(target=self.listen, daemon=True)
        self.ended = False

    def ask(self, operation):
        body = struct.pack("=IIIIHHI", CN_IDX_PROC, CN_VAL_PROC, 0, 0, 4, 0, operation)
        self.socket.send(struct.pack("=IHHII", 16 + len(body), 3, 0, 0, os.getpid()) + body)

    def listen(self):
        while True:
            try:
                data = self.socket.recv(4096)
            except TimeoutError:
                if self.ended:
                    return
                continue
            if len(data) < HEADERS + EVENT.size:
                continue
            what = EVENT.unpack_from(data, HEADERS)[0]
            rest = HEADERS + EVENT.size
            if what == EVENT_FORK:
                _, parent, child, child_group = struct.unpack_from("=IIII", data, rest)
                if child == child_group:  # A process, not a thread.
                    self.parents[child] = parent
            elif what == EVENT_EXEC:
                _, group = struct.unpack_from("=II", data, rest)
                self.names[group] = name_of(group) or self.names.get(group, "?")

    def starter(self, pid):
        """The program that the nearest ancestor runs which executed one; None for a stranger."""
        nearest = ""
        for _ in range(50):
            pid = self.parents.get(pid)
            if pid == self.root:
                return nearest or "daemon"
            if pid is None:
                return None
            nearest = nearest or self.names.get(pid, "")
        return None

    def __enter__(self):
        self.thread.start()
        self.ask(LISTEN)
        return self

    def __exit__(self, *_):
        self.ask(IGNORE)
        self.ended = True
        self.thread.join()
        self.socket.close()
        for pid, name in self.names.items():
            starter = self.starter(pid)
            if starter is not None:
                self.programs.append((name, starter))


def name_of(pid):
    """The program's, as far as it is still there to be asked."""
    try:
        return os.path.basename(os.readlink(f"/proc/{pid}/exe"))
    except OSError:
        try:
            return pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
        except OSError:
            return ""
