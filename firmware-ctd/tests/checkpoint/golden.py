#!/usr/bin/env python3
"""A second writer and reader of checkpoint images, made from the documentation of
src/checkpoint/image.rs alone: it made golden.ckpt.

    golden.py write FILE    writes the golden image
    golden.py read FILE     prints what is in any image, one flow a line
"""
import struct
import sys
import zlib
from ipaddress import ip_address


class Alphabet:
    def __init__(self):
        self.starts = [128 * s for s in range(33)]
        self.counts = [1] * 32
        self.period = self.left = 16

    def learn(self, symbol):
        self.counts[symbol] += 4
        self.left -= 1
        if self.left:
            return
        total = sum(self.counts)
        self.starts = [s + sum(self.counts[:s]) * 4064 // total for s in range(33)]
        if self.period == 1024:
            self.counts = [count // 2 for count in self.counts]
        else:
            self.period *= 2
        self.left = self.period


class Write:
    def __init__(self):
        self.bits, self.low, self.range, self.coded = "", 0, 2**32 - 1, 0
        self.shifts = 0  # bytes put out: `low` is an integer of any length, so carries are free

    def symbol(self, alphabet, symbol):
        unit = self.range >> 12
        self.low += unit * alphabet.starts[symbol]
        self.range = unit * (alphabet.starts[symbol + 1] - alphabet.starts[symbol])
        while self.range < 2**24:
            self.low, self.range, self.shifts = self.low << 8, self.range << 8, self.shifts + 1
        alphabet.learn(symbol)
        return symbol

    def raw(self, bits, value):
        if bits:
            self.bits += format(value, f"0{bits}b")
        return value

    def plain(self):
        bits = self.bits + "0" * (-len(self.bits) % 8)
        return bytes(int(bits[i:i + 8], 2) for i in range(0, len(bits), 8))

    def finish(self):
        return self.plain(), self.low.to_bytes(4 + self.shifts, "big")


class Read:
    def __init__(self, plain, coded):
        self.bits = "".join(format(byte, "08b") for byte in plain)
        self.coded, self.code, self.range = coded[4:], int.from_bytes(coded[:4], "big"), 2**32 - 1

    def symbol(self, alphabet, _):
        unit = self.range >> 12
        at = self.code // unit
        symbol = max(s for s in range(32) if alphabet.starts[s] <= at)
        self.code -= unit * alphabet.starts[symbol]
        self.range = unit * (alphabet.starts[symbol + 1] - alphabet.starts[symbol])
        while self.range < 2**24:
            self.code = (self.code << 8 | self.coded[0]) % 2**32
            self.coded, self.range = self.coded[1:], self.range << 8
        alphabet.learn(symbol)
        return symbol

    def raw(self, bits, _):
        assert len(self.bits) >= bits, "beyond the end"
        value, self.bits = int(self.bits[:bits] or "0", 2), self.bits[bits:]
        return value

    def at_end(self):
        return not self.coded and len(self.bits) < 8 and "1" not in self.bits


def number(s, lengths, width, value):
    symbol = 31 if value is None else min(value.bit_length(), 30)
    symbol = s.symbol(lengths, symbol)
    if symbol == 31:
        return None
    if symbol in (0, 30):
        return s.raw(width, value) if symbol else 0
    top = 1 << symbol - 1
    return top | s.raw(symbol - 1, (value or 0) & top - 1)


def below(s, bound, value):
    if bound <= 1:
        return 0
    k = (bound - 1).bit_length() - 1
    short = 2 ** (k + 1) - bound
    if isinstance(s, Write):
        if value < short:
            return s.raw(k, value)
        s.raw(k + 1, value + short)
        return value
    v = s.raw(k, 0)
    return v if v < short else 2 * v + s.raw(1, 0) - short


class Dictionary:
    def __init__(self, words, capacity):
        self.words, self.capacity = words, capacity
        self.known, self.ports, self.last = [], {}, [0] * words
        self.places, self.literals = Alphabet(), [Alphabet() for _ in range(words)]

    def code(self, s, address):
        """The address, and under what its port is noted."""
        place = self.known.index(address) if address in self.known else None
        place = number(s, self.places, 16, place)
        if place is not None:
            return self.known[place], place
        value = int(address)
        for i, lengths in enumerate(self.literals):
            word = value >> 32 * (self.words - 1 - i) & 0xFFFFFFFF
            self.last[i] ^= number(s, lengths, 32, word ^ self.last[i])
        value = sum(word << 32 * (self.words - 1 - i) for i, word in enumerate(self.last))
        address = ip_address(value.to_bytes(4 * self.words, "big"))
        place = len(self.known)
        if place < self.capacity:
            self.known.append(address)
        return address, place


NOTHING = ip_address("0.0.0.0")
NO_TUPLE = (NOTHING, NOTHING, 0, 0, 0)  # source, destination, protocol, form, word
ANSWERS = {(1, 8): 0, (1, 0): 8, (1, 13): 14, (1, 14): 13, (1, 15): 16, (1, 16): 15, (1, 17): 18,
           (1, 18): 17, (58, 128): 129, (58, 129): 128, (58, 139): 140, (58, 140): 139}


def inverse(tuple_):
    src, dst, proto, form, word = tuple_
    if form == 1:
        word = word >> 16 | (word & 0xFFFF) << 16
    if form == 2:
        kind = word >> 8 & 0xFF
        word = word & 0xFFFF00FF | ANSWERS.get((proto, kind), kind) << 8
    return dst, src, proto, form, word


def plain_tuple(s, tuple_):
    src, dst, proto, form, word = tuple_
    sizes = [16 if s.raw(1, int(a.version == 6)) else 4 for a in (src, dst)]
    proto, form = s.raw(8, proto), s.raw(2, form)
    src, dst = [ip_address(s.raw(8 * size, int(a)).to_bytes(size, "big"))
                for size, a in zip(sizes, (src, dst))]
    return src, dst, proto, form, s.raw(32, word) if form else 0


def name(s, value, size=16):
    length = s.raw(5, len(value.rstrip(b"\0")))
    return bytes(s.raw(8, value[i] if i < len(value) else 0) for i in range(length)).ljust(size, b"\0")


RARE = ["labels", "seqadj_orig", "seqadj_reply", "helper", "master", "vtags", "synproxy",
        "zone_reply"]


class Codec:
    def __init__(self):
        self.slots, self.next, self.last = {}, 0, [0] * 5
        self.upper, self.lower = Alphabet(), [Alphabet() for _ in range(16)]
        self.literals = [Alphabet() for _ in range(5)]
        self.roles = {role: {4: Dictionary(1, v4), 6: Dictionary(4, v6)} for role, v4, v6 in
                      [("source", 2048, 512), ("destination", 4096, 2048), ("translated", 256, 64)]}
        names = ["start", "sport", "dport", "rsport", "rdport", "shorter", "longer", "packets0",
                 "each0", "packets1", "each1"]
        self.numbers = [{n: Alphabet() for n in names} for _ in range(3)]

    def kind(self, s, words):
        found = next((n for n, (kind, _) in self.slots.items() if kind == words), 256)
        upper = s.symbol(self.upper, found >> 4)
        if upper != 16:
            return self.slots[16 * upper + s.symbol(self.lower[upper], found & 15)]
        for i, lengths in enumerate(self.literals):
            self.last[i] ^= number(s, lengths, 32, words[i] ^ self.last[i])
        self.slots[self.next] = (list(self.last), [0])
        self.next = (self.next + 1) % 256
        return self.slots[(self.next - 1) % 256]

    def flow(self, s, flow, previous):
        words = kind_of(flow) if flow else [0] * 5
        given = flow or {"orig": NO_TUPLE, "reply": NO_TUPLE, "counters": [(0, 0)] * 2}
        kind, longest = self.kind(s, words)
        bits, proto = kind[4], kind[3] & 0xFF
        lengths = self.numbers[{6: 0, 17: 1}.get(proto, 2)]
        form = bits >> 2 & 3
        out = {"status": kind[0], "mark": kind[1], "zone": kind[3] >> 16}
        out["zone_orig_only"], out["inexact"] = bool(bits & 1 << 4), bool(bits & 1 << 5)
        out["l4_state"] = kind[2].to_bytes(4, "big") if bits & 1 << 6 else None
        out["start_ms"] = None
        if bits & 1 << 9:
            delta = number(s, lengths["start"], 64, (given.get("start_ms") or 0) - previous)
            out["start_ms"] = previous = previous + delta
        # Original
        version = [6 if bits >> n & 1 else 4 for n in (0, 1)]
        src, _ = self.roles["source"][version[0]].code(s, given["orig"][0])
        there = self.roles["destination"][version[1]]
        dst, place = there.code(s, given["orig"][1])
        word = given["orig"][4]
        if form == 1:
            sport = number(s, lengths["sport"], 16, word >> 16)
            noted = there.ports.get(place, 0)
            dport = number(s, lengths["dport"], 16, None if word & 0xFFFF == noted else word & 0xFFFF)
            dport = noted if dport is None else dport
            there.ports[place] = dport
            word = sport << 16 | dport
        else:
            word = s.raw(32, word) if form == 2 else 0
        out["orig"] = orig = (src, dst, proto, form, word)
        # Reply
        if bits & 1 << 13:
            out["reply"] = plain_tuple(s, given["reply"])
        else:
            src, dst, _, _, word = inverse(orig)
            told = self.roles["translated"]
            if bits & 1 << 10:
                src, _ = told[src.version].code(s, given["reply"][0])
            if bits & 1 << 11:
                dst, _ = told[dst.version].code(s, given["reply"][1])
            if bits & 1 << 12 and form == 1:
                ports = []
                for n, shift in (("rsport", 16), ("rdport", 0)):
                    plain, want = word >> shift & 0xFFFF, given["reply"][4] >> shift & 0xFFFF
                    port = number(s, lengths[n], 16, None if want == plain else want)
                    ports.append(plain if port is None else port)
                word = ports[0] << 16 | ports[1]
            elif bits & 1 << 12 and form == 2:
                word = s.raw(32, given["reply"][4])
            out["reply"] = (src, dst, proto, form, word)
        # Timeout
        out["timeout_s"] = None
        if bits & 1 << 8:
            want = given.get("timeout_s") or 0
            less = number(s, lengths["shorter"], 32, longest[0] - want if want <= longest[0] else None)
            if less is None:
                longest[0] += number(s, lengths["longer"], 32, want - longest[0])
            out["timeout_s"] = longest[0] - (less or 0)
        # Counters
        out["counters"] = None
        if bits & 1 << 7:
            out["counters"] = []
            for n, (packets, octets) in enumerate(given["counters"]):
                packets = number(s, lengths[f"packets{n}"], 64, packets)
                divisor = max(packets, 1)
                each = number(s, lengths[f"each{n}"], 64, octets // divisor)
                octets = each * divisor + below(s, divisor, octets % divisor)
                out["counters"].append((packets, octets))
        # The rare
        for n, key in enumerate(RARE):
            if not bits & 1 << 16 + n:
                continue
            value = given.get(key)
            if key == "helper":
                out[key] = name(s, value or b"")
            elif key == "master":
                out[key] = plain_tuple(s, value or NO_TUPLE)
            else:
                sizes = {"labels": [128], "vtags": [32] * 2, "zone_reply": [16]}.get(key, [32] * 3)
                out[key] = [s.raw(size, v) for size, v in zip(sizes, value or [0] * 3)]
        return out, previous


def kind_of(flow):
    orig, reply = flow["orig"], flow["reply"]
    there = [orig[0].version == 6, orig[1].version == 6, orig[3] & 1, orig[3] >> 1,
             flow.get("zone_orig_only"), flow.get("inexact"), flow.get("l4_state") is not None,
             flow.get("counters") is not None, flow.get("timeout_s") is not None,
             flow.get("start_ms") is not None]
    plain = inverse(orig)
    if [a.version for a in plain[:2]] != [a.version for a in reply[:2]] or plain[2:4] != reply[2:4]:
        there += [0, 0, 0, 1]
    else:
        there += [plain[0] != reply[0], plain[1] != reply[1], plain[4] != reply[4], 0]
    there += [0, 0] + [flow.get(key) is not None for key in RARE]
    flags = sum(bool(bit) << n for n, bit in enumerate(there))
    state = int.from_bytes(flow.get("l4_state") or b"", "big")
    return [flow["status"], flow.get("mark", 0), state, flow.get("zone", 0) << 16 | orig[2], flags]


def expectation(s, e):
    out = {key: plain_tuple(s, e.get(key, NO_TUPLE)) for key in ("master", "tuple", "mask")}
    for key, bits in (("zone", 16), ("timeout_s", 32), ("flags", 32), ("class", 32)):
        out[key] = s.raw(bits, e.get(key, 0))
    for key in ("helper", "function"):
        if s.raw(1, int(key in e)):
            out[key] = name(s, e.get(key, b""), 24 if key == "function" else 16)
    if s.raw(1, int("nat" in e)):
        direction, tuple_ = e.get("nat", (0, NO_TUPLE))
        out["nat"] = (s.raw(32, direction), plain_tuple(s, tuple_))
    return out


def be(*pairs):
    return b"".join(value.to_bytes(size, "big") for value, size in pairs)


def crc(data):
    return be((zlib.crc32(data), 4))


def write_image(facts, flows, expectations, words):
    header = b"FWCTDckp" + be((1, 2), (64, 2), (facts["flags"], 4), (facts["generation"], 8))
    header += facts["boot_id"] + be((facts["wall_ns"], 8), (facts["boot_ms"], 8), (0, 4))
    blocks = [header]

    def block(section, count, payload):
        blocks.append(be((section, 2), (count, 2), (len(payload), 4)) + payload)

    codec = Codec()
    for at in range(0, len(flows), 1024):
        batch = sorted(flows[at:at + 1024], key=lambda f: -1 if f.get("start_ms") is None else f["start_ms"])
        s, previous = Write(), batch[0].get("start_ms") or 0
        base = previous
        for flow in batch:
            back, previous = codec.flow(s, flow, previous)
        plain, coded = s.finish()
        block(1, len(batch), be((base, 8), (len(plain), 4)) + plain + coded)
    if expectations:
        s = Write()
        for e in expectations:
            expectation(s, e)
        block(2, len(expectations), s.plain())
    for section, version, content in words:
        block(section, 0, be((version, 4), *[(word, 4) for word in content]))
    sums = b"".join(crc(b) for b in blocks)
    size = sum(len(b) + 4 for b in blocks) + 36
    ipv6 = sum(flow["orig"][0].version == 6 for flow in flows)
    totals = [len(flows), ipv6, len(expectations), len(blocks) - 1, size, zlib.crc32(sums)]
    block(3, 0, be(*[(total, 4) for total in totals]))
    return b"".join(b + crc(b) for b in blocks)


def read_image(image):
    assert image[:8] == b"FWCTDckp" and image[8:10] == b"\0\1"
    at = int.from_bytes(image[10:12], "big")
    assert crc(image[:at - 4]) == image[at - 4:at]
    keys = struct.unpack(">IQ16sQQ", image[12:56])
    facts = dict(zip(("flags", "generation", "boot_id", "wall_ns", "boot_ms"), keys))
    sums, codec, flows, expectations, words, blocks = image[at - 4:at], Codec(), [], [], [], 0
    while True:
        section, count, length = struct.unpack(">HHI", image[at:at + 8])
        payload, end = image[at + 8:at + 8 + length], at + 8 + length
        assert crc(image[at:end]) == image[end:end + 4], at
        at = end + 4
        if section == 3:
            ipv6 = sum(flow["orig"][0].version == 6 for flow in flows)
            totals = [len(flows), ipv6, len(expectations), blocks, at, zlib.crc32(sums)]
            assert list(struct.unpack(">6I", payload[:24])) == totals and at == len(image)
            return facts, flows, expectations, words
        if section == 1:
            base, plain = struct.unpack(">QI", payload[:12])
            s = Read(payload[12:12 + plain], payload[12 + plain:])
            for _ in range(count):
                flow, base = codec.flow(s, None, base)
                flows.append(flow)
            assert s.at_end()
        elif section == 2:
            s = Read(payload, bytes(4))
            expectations += [expectation(s, {}) for _ in range(count)]
            assert s.at_end()
        elif section >> 8 == 1:
            words.append((section, *struct.unpack(f">{length // 4}I", payload)))
        sums, blocks = sums + crc(image[end - 8 - length:end]), blocks + 1


def golden():
    """What golden.rs expects, by the same rules."""
    a = ip_address
    facts = {"flags": 3, "generation": 42, "boot_id": bytes(range(16)), "wall_ns": 1795289206230000000,
             "boot_ms": 86400123}
    flows = []
    for n in range(60):  # TCP behind NAT, every third with its port changed
        client, server = a(f"192.168.1.{10 + n % 7}"), a(f"198.51.100.{n * n % 11}")
        sport, dport = 40000 + 977 * n % 20000, 443 if n % 5 else 1024 + n
        port = sport if n % 3 else 1024 + 31 * n
        flows.append({
            "orig": (client, server, 6, 1, sport << 16 | dport),
            "reply": (server, a("203.0.113.1"), 6, 1, dport << 16 | port),
            "status": 0x19E, "mark": n % 2, "timeout_s": 432000 - n * n,
            "l4_state": bytes([3, 0x77, 0x23, 0x23]), "start_ms": 1795280000000 + 7919 * n % 1000000,
            "counters": [(n + 1, (n + 1) * 777 + n), (3 ** (n % 30), 10 ** 6 * n)]})
    v6 = (a("2001:db8::5"), a("2001:db8:ffff::1"), 17, 1, 5353 << 16 | 53)
    flows.append({"orig": v6, "reply": inverse(v6), "status": 0xE, "timeout_s": 29, "start_ms": 5,
                  "counters": [(2**64 - 1, 2**64 - 1), (0, 17)], "inexact": True})
    ping = (a("192.0.2.1"), a("192.0.2.2"), 1, 2, 0x1234 << 16 | 8 << 8)
    flows.append({"orig": ping, "reply": inverse(ping), "status": 8, "zone": 7, "zone_orig_only": True})
    gre = (a("192.0.2.1"), a("192.0.2.9"), 47, 0, 0)
    flows.append({"orig": gre, "reply": (a("2001:db8::1"), a("192.0.2.3"), 50, 0, 0), "status": 0,
                  "labels": [0x0123456789ABCDEF << 64 | 1], "seqadj_orig": [1, 2, 3],
                  "seqadj_reply": [4, 5, 0xFFFFFFFF], "helper": b"ftp", "master": ping,
                  "vtags": [6, 7], "synproxy": [8, 9, 10], "zone_reply": [11]})
    expectations = [{"master": ping, "tuple": v6, "mask": gre, "zone": 1, "timeout_s": 300,
                     "flags": 2, "class": 3, "helper": b"sip-5060", "function": b"nat-follow-master",
                     "nat": (1, gre)}]
    return facts, flows, expectations, [(0x101, 2, [1, 0xDEADBEEF, 3])]


if __name__ == "__main__":
    if sys.argv[1] == "write":
        image = write_image(*golden())
        assert len(read_image(image)[1]) == 63
        open(sys.argv[2], "wb").write(image)
    else:
        facts, flows, expectations, words = read_image(open(sys.argv[2], "rb").read())
        for line in [facts, *flows, *expectations, *words]:
            print(line)
