"""The host's side of a socket device: its back-end, and programs around it."""

import socket

import backends
import vhost_user
import vsock_client
from vsock_client import Stream

CID = 52


class Host:
    """The host's side: the device's socket, and listeners for the guest."""

    def __init__(self, bench, folder, files=None):
        self.bench, self.path, self.files = bench, str(folder / "v.sock"), files
        self.process, self.vsock = self.start()

    def start(self):
        process, connection = backends.on_socketpair("--cid", CID, "--uds", self.path, kind="vsock", files=self.files)
        self.bench.keep(process)
        try:
            return process, self.bench.keep(vsock_client.Vsock(connection, CID))
        except vhost_user.BackEndError as error:
            raise vhost_user.BackEndError(f"{error}\n{process.errors()}") from error

    def listen(self, port):
        """A host program that waits for the guest."""
        listener = self.bench.keep(socket.socket(socket.AF_UNIX))
        listener.bind(f"{self.path}_{port}")
        listener.listen(128)
        listener.settimeout(vhost_user.PATIENCE)
        return listener

    def connect(self, text):
        """A host program that begins; nothing is read yet."""
        program = self.bench.keep(socket.socket(socket.AF_UNIX))
        program.settimeout(vhost_user.PATIENCE)
        program.connect(self.path)
        program.sendall(text)
        return program

    def stream_from_host(self, port=1024):
        """(host program, stream), open."""
        program = self.connect(b"CONNECT %d\n" % port)
        stream = Stream.from_host(self.vsock)
        assert stream.ports[0] == port
        assert program.recv(100) == b"OK %d\n" % stream.ports[1]
        return program, stream

    def stream_to_host(self, listener, host_port, guest_port=5000):
        """The same, begun by the guest."""
        stream = Stream.to_host(self.vsock, guest_port, host_port)
        program = self.bench.keep(listener.accept()[0])
        program.settimeout(vhost_user.PATIENCE)
        return program, stream


def is_closed(program):
    """Whether the other end has closed it: with bytes of ours unread that is a reset."""
    try:
        return program.recv(100) == b""
    except ConnectionResetError:
        return True
