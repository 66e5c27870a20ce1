"""Raw requests, right and wrong ones, made from a seed."""

from random import Random

METHODS = [b"GET", b"POST", b"PUT", b"DELETE", b"HEAD", b"OPTIONS", b"get", b"FOO"]
TARGETS = [b"/", b"/v1/judge", b"/livez", b"/a%20b?c=d", b"*", b"//x/y", b"/a b", b""]
FIELDS = [
    *(b"X-A: b", b"X-A:b", b"X-A : b", b" X-A: b", b"X-A:", b": b", b"X A: b"),
    *(b"X-A: b\r\n c", b"X-A: \x00", b"X-A: \xff", b"X-A: b\x0bc", b"X-A"),
    *(b"Connection: close", b"Connection: keep-alive", b"Expect: 100-continue"),
    *(
        b"Connection: Upgrade\r\nUpgrade: h2c",
        b"Connection: Upgrade, close\r\nUpgrade: x",
    ),
    *(b"Host: b", b"Content-Type: application/json", b"X-Request-ID: one"),
]
LENGTHS = [
    *(b"Content-Length: 3, 3", b"Content-Length: +3", b"Content-Length: -3"),
    *(b"Content-Length: 0x3", b"Content-Length: 3\r\nContent-Length: 3"),
    *(b"Content-Length: 3\r\nContent-Length: 4", b"Content-Length : 3"),
    *(b"Content-Length: 03", b"Content-Length: ", b"Content-Length: 3 "),
    *(b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: identity"),
    *(
        b"Transfer-Encoding: chunked\r\nContent-Length: 3",
        b"Transfer-Encoding: xchunked",
    ),
    *(b"Transfer-Encoding: chunked, chunked", b"Transfer-Encoding: \x0bchunked"),
    *(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",),
    *(b"Transfer-Encoding : chunked", b"transfer-encoding: CHUNKED", b"TE: trailers"),
]
BODIES = [b"", b"abc", b"{}", b'{"claims": [{"note": "a"}]}', b"GET / HTTP/1.1\r\n\r\n"]


def make_chunks(random: Random, body: bytes, wrong: bool) -> bytes:
    """Return a body in chunks, with extensions and trailers now and then."""
    out = b""
    while body:
        part = body[: random.randint(1, 5)]
        body = body[len(part) :]
        size = random.choice([b"%x", b"%X", b"0%x"]) % len(part)
        out += size + random.choice([b"", b"", b";a=b", b';a="b"']) + b"\r\n"
        out += part + b"\r\n"
    out += b"0\r\n" + random.choice([b"", b"", b"X-T: u\r\n"]) + b"\r\n"
    if wrong:
        at = random.randrange(len(out))
        change = random.choice([b"", b"\n", b"\r", b" ", b"z", b"-", b"0x", b";"])
        out = out[:at] + change + out[at + random.randint(0, 1) :]
    return out


def make_request(random: Random) -> bytes:
    """Return a request, which is wrong in some way about one time in three."""
    wrong = random.random() < 0.35

    def pick(choices: list[bytes], right: int) -> bytes:
        return random.choice(choices if wrong else choices[:right])

    version = random.choices([b"1.1", b"1.0", b"1.2", b"x"], [20, 1, wrong, wrong])[0]
    gap, protocol = b" ", b" HTTP/"
    if wrong and random.random() < 0.2:
        gap = random.choice([b" ", b"  "])
        protocol = random.choice([b" RTSP/", b"  HTTP/"])
    lines = [pick(METHODS, 6) + gap + pick(TARGETS, 4) + protocol + version]
    if not wrong or random.random() < 0.8:
        lines.append(b"Host: a")
    lines += random.sample(FIELDS if wrong else FIELDS[:2], random.randint(0, 2))
    if random.random() < 0.15:
        lines.append(random.choice(FIELDS[12:17]))
    body = random.choice(BODIES)
    kind = random.random()
    if wrong and kind < 0.3:
        lines.append(random.choice(LENGTHS))
        body = random.choice([b"abc", make_chunks(random, b"abc", False), body])
    elif kind < 0.6:
        lines.append(b"Content-Length: %d" % len(body))
    elif kind < 0.85:
        lines.append(b"Transfer-Encoding: chunked")
        body = make_chunks(random, body, wrong)
    else:
        body = b""
    ending = random.choice([b"\r\n"] * 9 + [b"\n"]) if wrong else b"\r\n"
    head = ending.join([*lines, b"", b""])
    if wrong and random.random() < 0.2:
        at = random.randrange(len(head))
        head = head[:at] + bytes([random.randrange(256)]) + head[at + 1 :]
    return head + body


def make_stream(random: Random) -> bytes:
    """Return what a client sends on one connection: a few requests, maybe cut off."""
    stream = b"".join(make_request(random) for _ in range(random.randint(1, 5)))
    if random.random() < 0.1:
        stream = stream[: random.randrange(len(stream) + 1)]
    return stream


def cut(random: Random, stream: bytes) -> list[bytes]:
    """Return a stream in the parts in which it is sent."""
    way = random.random()
    if way < 0.5:
        return [stream]
    if way < 0.7:
        return [bytes([byte]) for byte in stream]
    places = sorted(random.randrange(len(stream) + 1) for _ in range(4))
    ends = [*places, len(stream)]
    return [stream[a:b] for a, b in zip([0, *places], ends, strict=True) if a < b]
