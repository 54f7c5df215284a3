#!/usr/bin/python3
"""An IPFIX collector that writes one JSON line for each record, on Debian's python3-ipfix.

It decides how bytes become whole messages and where lines go; what a template or a record is, the
package decides, so that this is a second opinion on what the daemon sends. Any number of routers
at a time. Templates belong to a connection (TCP) or to a sender (UDP), as RFC 7011 says.

Only whole messages count: what a broken connection left of one is dropped, and told on standard
error. SIGTERM ends it after everything that has arrived is read and written.

Limits: one thread; no withdrawal of templates; a record of an unknown template is dropped and told.
"""

import argparse
import io
import json
import os
import selectors
import signal
import socket
import struct
import sys

import ipfix.ie
import ipfix.message

HEADER = struct.Struct("!HHLLL")
SET = struct.Struct("!HH")

# Declared before anything else, so that addresses and times stay as they are sent: the package's
# own types make objects of them, which is slow, and a time that is no date would end the program.
ELEMENTS = """
    octetDeltaCount(0/1)<unsigned64>[8] packetDeltaCount(0/2)<unsigned64>[8]
    protocolIdentifier(0/4)<unsigned8>[1]
    sourceTransportPort(0/7)<unsigned16>[2] destinationTransportPort(0/11)<unsigned16>[2]
    sourceIPv4Address(0/8)<octetArray>[4] destinationIPv4Address(0/12)<octetArray>[4]
    sourceIPv6Address(0/27)<octetArray>[16] destinationIPv6Address(0/28)<octetArray>[16]
    flowStartMilliseconds(0/152)<unsigned64>[8] flowEndMilliseconds(0/153)<unsigned64>[8]
    flowStartSeconds(0/150)<unsigned32>[4] flowEndSeconds(0/151)<unsigned32>[4]
    icmpTypeCodeIPv4(0/32)<unsigned16>[2] icmpTypeCodeIPv6(0/139)<unsigned16>[2]
    flowEndReason(0/136)<unsigned8>[1] flowId(0/148)<unsigned64>[8]
    observationDomainId(0/149)<unsigned32>[4] natEvent(0/230)<unsigned8>[1]
    postNATSourceIPv4Address(0/225)<octetArray>[4]
    postNATDestinationIPv4Address(0/226)<octetArray>[4]
    postNATSourceIPv6Address(0/281)<octetArray>[16]
    postNATDestinationIPv6Address(0/282)<octetArray>[16]
    postNAPTSourceTransportPort(0/227)<unsigned16>[2]
    postNAPTDestinationTransportPort(0/228)<unsigned16>[2]
    reverseOctetDeltaCount(29305/1)<unsigned64>[8]
    reversePacketDeltaCount(29305/2)<unsigned64>[8]
    observationTimeMilliseconds(0/323)<unsigned64>[8]
    systemInitTimeMilliseconds(0/160)<unsigned64>[8]
"""


class Fault(Exception):
    """What was sent is not IPFIX; nothing after it can be told apart."""


# What the package raises for what it cannot read, and this program.
FAULTS = (Fault, ipfix.message.IpfixDecodeError, ValueError, struct.error)


def known():
    """The elements above first, then the package's own lists for whatever else comes."""
    for spec in ELEMENTS.split():
        ipfix.ie.for_spec(spec)
    ipfix.ie.use_iana_default()
    ipfix.ie.use_5103_default()


def shown(name, value):
    """A value as JSON has it: addresses as text, other bytes in hexadecimal."""
    if not isinstance(value, bytes):
        return value if isinstance(value, (int, float, str, bool)) else str(value)
    if "Address" in name and len(value) in (4, 16):
        family = socket.AF_INET if len(value) == 4 else socket.AF_INET6
        return socket.inet_ntop(family, value)
    return value.hex()


def decoded(template, buffer, offset, recinf=None):
    """One record with the number of its template; a decode function of the package's reader."""
    fields, offset = template.decode_namedict_from(buffer, offset)
    line = {name: shown(name, value) for name, value in fields.items()}
    line["template"] = template.tid
    return line, offset


def checked(message):
    """A set shorter than its header would keep the package's scan in one place for ever."""
    at = HEADER.size
    while at < len(message):
        if at + SET.size > len(message):
            raise Fault("a set header is cut off")
        length = SET.unpack_from(message, at)[1]
        if length < SET.size or at + length > len(message):
            raise Fault(f"a set of {length} bytes")
        at += length


class Source:
    """One connection or sender, with its templates."""

    def __init__(self, name):
        self.name = name
        self.pending = bytearray()
        self.reader = ipfix.message.MessageBuffer()
        self.reader.unknown_data_set_hook = lambda *_: tell(f"{name}: data before its template")

    def messages(self, received):
        """The whole messages so far; the rest waits for more."""
        self.pending += received
        at = 0
        while len(self.pending) - at >= HEADER.size:
            version, length, *_ = HEADER.unpack_from(self.pending, at)
            if version != 10 or length < HEADER.size:
                raise Fault(f"version {version}, length {length}")
            if len(self.pending) - at < length:
                break
            yield bytes(self.pending[at : at + length])
            at += length
        del self.pending[:at]

    def lines(self, message):
        """The records of one message as lines."""
        checked(message)
        if len(message) == HEADER.size:
            return
        self.reader.read_message(io.BytesIO(message))
        about = {"domain": self.reader.odid, "sequence": self.reader.sequence, "from": self.name}
        for line in self.reader.record_iterator(decode_fn=decoded):
            line.update(about)
            yield json.dumps(line)


def tell(text):
    """One line of the log."""
    print(text, file=sys.stderr, flush=True)


class Collector:
    """The sockets, the sources and the file."""

    def __init__(self, options):
        self.file = whole_lines(options.output)
        self.selector = selectors.DefaultSelector()
        self.senders = {}
        self.ending = False
        kind = socket.SOCK_DGRAM if options.udp else socket.SOCK_STREAM
        self.socket = socket.socket(socket.AF_INET, kind)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if options.receive_buffer:  # before listen: connections inherit it
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, options.receive_buffer)
        self.socket.bind((options.address, options.port))
        self.socket.setblocking(False)
        if options.udp:
            self.listen(self.socket, self.datagram)
        else:
            self.socket.listen(128)
            self.listen(self.socket, self.accept)

    def listen(self, file, what):
        self.selector.register(file, selectors.EVENT_READ, what)

    def accept(self):
        connection, (host, port) = self.socket.accept()
        connection.setblocking(False)
        source = Source(f"{host}:{port}")
        tell(f"{source.name}: connected")
        self.listen(connection, lambda: self.stream(connection, source))

    def stream(self, connection, source):
        try:
            received = connection.recv(1 << 18)
            self.write(source, source.messages(received))
        except BlockingIOError:
            return
        except (OSError, *FAULTS) as error:
            tell(f"{source.name}: {error}")
            received = b""
        if not received:
            tell(f"{source.name}: closed, {len(source.pending)} bytes of no whole message")
            self.selector.unregister(connection)
            connection.close()

    def datagram(self):
        message, (host, port) = self.socket.recvfrom(1 << 16)
        source = self.senders.setdefault((host, port), Source(f"{host}:{port}"))
        try:
            self.write(source, source.messages(message))
        except FAULTS as error:
            tell(f"{source.name}: {error}")
        if source.pending:
            tell(f"{source.name}: a datagram is cut off")
            source.pending.clear()

    def write(self, source, messages):
        """Everything of one read at once, before the next is read."""
        lines = []
        try:
            for message in messages:
                lines.extend(source.lines(message))
        finally:
            rest = ("".join(line + "\n" for line in lines)).encode()
            while rest:
                rest = rest[os.write(self.file, rest) :]

    def run(self):
        """Until SIGTERM, and then until nothing more has arrived."""
        while True:
            ready = self.selector.select(0 if self.ending else None)
            if self.ending and not ready:
                return
            for key, _ in ready:
                key.data()


def whole_lines(path):
    """The file to append to; a line that an earlier run was killed in is removed."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    size = os.fstat(file).st_size
    tail = os.pread(file, 1 << 16, max(0, size - (1 << 16)))
    torn = len(tail) - (tail.rfind(b"\n") + 1)
    if torn:
        tell(f"{path}: {torn} bytes of a torn line removed")
        os.ftruncate(file, size - torn)
    return file


def main():
    parser = argparse.ArgumentParser(description="IPFIX over TCP (or UDP) to JSON lines")
    parser.add_argument("--address", default="0.0.0.0")
    parser.add_argument("--port", type=int, default=4739)
    parser.add_argument("--output", required=True, help="the file to append to")
    parser.add_argument("--receive-buffer", type=int, default=0, help="SO_RCVBUF in bytes")
    parser.add_argument("--udp", action="store_true", help="datagrams instead of connections")
    options = parser.parse_args()
    known()
    collector = Collector(options)
    wake, waker = socket.socketpair()
    waker.setblocking(False)
    signal.set_wakeup_fd(waker.fileno())

    def end():
        wake.recv(64)
        collector.ending = True

    signal.signal(signal.SIGTERM, lambda *_: None)
    collector.listen(wake, end)
    tell("listening")
    collector.run()


if __name__ == "__main__":
    main()
