#!/usr/bin/env python3
"""An unmodified redis-py against a cluster: `redis_py_check.py plain|cluster HOST:PORT...`

plain: an ordinary client, each command on another node (proxy mode).
cluster: redis-py's cluster client (cluster mode), which routes by CLUSTER SLOTS and follows MOVED.
Also passes against Redis itself, which is how the expectations were checked.
"""

import sys
import time

import redis

CHECKS = 0


def expect(got, want, what):
    global CHECKS
    CHECKS += 1
    if got != want:
        sys.exit(f"{what}: got {got!r}, expected {want!r}")


def expect_error(call, text, what):
    global CHECKS
    CHECKS += 1
    try:
        got = call()
    except Exception as error:  # the cluster client's own errors are no RedisError
        if text not in str(error):
            sys.exit(f"{what}: error {error!r}, expected one with {text!r}")
        return
    sys.exit(f"{what}: got {got!r}, expected an error with {text!r}")


def check_single_keys(on):
    """`on()` gives the client for the next command."""
    expect(on().set("s", "v1"), True, "SET")
    expect(on().get("s"), b"v1", "GET")
    expect(on().get("absent"), None, "GET absent")
    expect(on().set("s", "v2", nx=True), None, "SET NX on a key")
    expect(on().set("s", "v2", xx=True, get=True), b"v1", "SET XX GET")
    expect(on().append("s", "+more"), 7, "APPEND")
    expect(on().strlen("s"), 7, "STRLEN")
    expect(on().getrange("s", 3, -1), b"more", "GETRANGE")
    expect(on().setrange("s", 2, "-"), 7, "SETRANGE")
    expect(on().getdel("s"), b"v2-more", "GETDEL")
    expect(on().exists("s"), 0, "EXISTS")

    expect(on().incr("n"), 1, "INCR")
    expect(on().incrby("n", 41), 42, "INCRBY")
    expect(on().decr("n", 2), 40, "DECRBY")
    expect(on().incrbyfloat("n", 0.5), 40.5, "INCRBYFLOAT")
    expect(on().type("n"), b"string", "TYPE")
    expect_error(lambda: on().incr("n"), "not an integer", "INCR of a fraction")

    binary = bytes(range(256)) * 40
    expect(on().set("binary", binary), True, "SET binary")
    expect(on().get("binary"), binary, "GET binary")

    expect(on().set("t", "x", px=200), True, "SET PX")
    expect(0 < on().pttl("t") <= 200, True, "PTTL")
    expect(on().ttl("n"), -1, "TTL without expiry")
    expect(on().ttl("absent"), -2, "TTL absent")
    expect(on().expire("n", 100), True, "EXPIRE")
    expect(on().persist("n"), True, "PERSIST")
    expect(on().getex("n", ex=100), b"40.5", "GETEX")
    expect(99 <= on().ttl("n") <= 100, True, "TTL")
    deadline = time.monotonic() + 10
    while on().get("t") is not None:
        if time.monotonic() > deadline:
            sys.exit("SET PX 200: the key is still there after 10 s")
        time.sleep(0.05)
    expect(on().delete("n", "binary") if not CLUSTER else on().delete("n") + on().delete("binary"), 2, "DEL")


def check_many_keys(on):
    # One slot, so that the same holds in cluster mode.
    pairs = {f"{{m}}-{n}": f"value-{n}".encode() for n in range(20)}
    expect(on().mset(pairs), True, "MSET")
    expect(on().mget(list(pairs)), list(pairs.values()), "MGET")
    expect(on().msetnx({"{m}-0": "a", "{m}-new": "b"}), False, "MSETNX")
    expect(on().exists("{m}-new"), 0, "EXISTS after MSETNX")
    expect(on().unlink(*pairs), 20, "UNLINK")


def check_pipeline(client):
    with client.pipeline(transaction=False) as pipe:
        for n in range(100):
            pipe.set(f"pipe-{n}", n)
        for n in range(100):
            pipe.incr(f"pipe-{n}")
        got = pipe.execute()
    expect(got, [True] * 100 + list(range(1, 101)), "pipeline")


def check_scan(client):
    want = {f"pipe-{n}".encode() for n in range(100)}
    expect(set(client.scan_iter(match="pipe-*", count=7)), want, "SCAN")
    for key in want:
        client.delete(key)
    expect(set(client.scan_iter(match="pipe-*")), set(), "SCAN after DEL")


def plain(endpoints):
    clients = []
    for host, port in endpoints:
        clients.append(redis.Redis(host=host, port=port, socket_timeout=15))
        clients.append(redis.Redis(host=host, port=port, socket_timeout=15, protocol=3, client_name="check"))
    turn = iter(range(10**9))

    def on():
        return clients[next(turn) % len(clients)]

    for client in clients:
        expect(client.ping(), True, "PING")
        expect(client.echo("hello"), b"hello", "ECHO")
    expect(clients[1].client_getname() in ("check", b"check"), True, "CLIENT GETNAME")
    check_single_keys(on)
    check_many_keys(on)
    # In proxy mode, and in Redis without cluster, keys of several commands may be anywhere.
    expect(on().mset({"a": "1", "b": "2", "c": "3"}), True, "MSET over shards")
    expect(on().mget("c", "b", "absent", "a"), [b"3", b"2", None, b"1"], "MGET over shards")
    expect(on().delete("a", "b", "c", "absent"), 3, "DEL over shards")
    check_pipeline(clients[0])
    check_scan(clients[-1])


def cluster(endpoints):
    from redis.cluster import ClusterNode, RedisCluster

    nodes = [ClusterNode(host, port) for host, port in endpoints]
    client = RedisCluster(startup_nodes=nodes, socket_timeout=15)
    expect(len(client.get_primaries()) >= 1, True, "primaries")
    check_single_keys(lambda: client)
    check_many_keys(lambda: client)
    check_pipeline(client)
    check_scan(client)
    expect_error(lambda: client.mset({"a": "1", "b": "2"}), "slot", "MSET over slots")
    # Known to be elsewhere: the plain client is told so.
    host, port = endpoints[0]
    moved = 0
    for n in range(64):
        try:
            redis.Redis(host=host, port=port).set(f"moved-{n}", n)
        except redis.RedisError as error:
            expect("MOVED" in str(error) or error.__class__.__name__ == "MovedError", True, f"{error!r}")
            moved += 1
    expect(moved > 0 or len(client.get_primaries()) == 1, True, "MOVED to a plain client")


if len(sys.argv) < 3 or sys.argv[1] not in ("plain", "cluster"):
    sys.exit(__doc__)
CLUSTER = sys.argv[1] == "cluster"
addresses = [(a.rsplit(":", 1)[0], int(a.rsplit(":", 1)[1])) for a in sys.argv[2:]]
(cluster if CLUSTER else plain)(addresses)
print(f"redis-py {redis.__version__}, {sys.argv[1]}: {CHECKS} checks passed")
