"""What a script of a user does with a pod's streams: commands with input, ports and logs, in each of the protocols that clients
speak. The pod is called `box`."""

import hashlib
import json
import os
import ssl

import websocket
from kubernetes import client, config
from kubernetes.stream import portforward, stream

config.load_kube_config()
core = client.CoreV1Api()
name, namespace = "box", "default"


def execute(command, **options):
    options = {"stdin": False, "stdout": True, "stderr": True, "tty": False, **options}
    return stream(core.connect_get_namespaced_pod_exec, name, namespace, command=command, **options)


# Commands, with both of their outputs and their exit codes.
assert execute(["echo", "hello"]) == "hello\n"
session = execute(["sh", "-c", "echo out; echo err >&2; exit 7"], _preload_content=False)
session.run_forever()
assert session.subprotocol == "v5.channel.k8s.io", session.subprotocol
assert session.read_stdout() == "out\n"
assert session.read_stderr() == "err\n"
assert session.returncode == 7, session.returncode

# Input that ends: only the newest protocol can say so.
data = os.urandom(3_000_000)
session = execute(["sha256sum"], stdin=True, binary=True, _preload_content=False)
for start in range(0, len(data), 100_000):
    session.write_stdin(data[start:start + 100_000])
session.close_channel(0)
session.run_forever(timeout=60)
assert session.read_stdout().split()[0].decode() == hashlib.sha256(data).hexdigest()
assert session.returncode == 0

# A message that is larger than any frame of the kubelet's.
session = execute(["sha256sum"], stdin=True, binary=True, _preload_content=False)
session.write_stdin(data)
session.close_channel(0)
session.run_forever(timeout=60)
assert session.read_stdout().split()[0].decode() == hashlib.sha256(data).hexdigest()

# Output that is larger than everything that waits on the way.
session = execute(["head", "-c", "3000000", "/dev/zero"], binary=True, _preload_content=False)
session.run_forever(timeout=120)
assert len(session.read_stdout()) == 3_000_000
assert session.returncode == 0

# A command that is not there.
session = execute(["/no/such/command"], _preload_content=False)
session.run_forever(timeout=60)
status = json.loads(session.read_channel(3))
assert status["status"] == "Failure", status

# Ports.
forward = portforward(core.connect_get_namespaced_pod_portforward, name, namespace, ports="8080")
connection = forward.socket(8080)
connection.setblocking(True)
connection.sendall(b"GET /index.html HTTP/1.0\r\n\r\n")
answer = b""
while piece := connection.recv(65536):
    answer += piece
assert answer.endswith(b"index\n"), answer
assert forward.error(8080) is None, forward.error(8080)


def connect(path, *protocols):
    """A WebSocket of any protocol."""
    settings = client.Configuration.get_default_copy()
    address = settings.host.replace("https://", "wss://") + path
    tls = {"cert_reqs": ssl.CERT_REQUIRED, "ca_certs": settings.ssl_ca_cert, "certfile": settings.cert_file,
           "keyfile": settings.key_file}
    return websocket.create_connection(address, sslopt=tls, subprotocols=list(protocols), timeout=60)


def messages(socket):
    """What comes until the end."""
    while True:
        code, message = socket.recv_data()
        if code == websocket.ABNF.OPCODE_CLOSE:
            assert message[:2] == b"\x03\xe8", message
            return
        yield message


# The older protocols are passed on to the kubelet.
pod = f"/api/v1/namespaces/{namespace}/pods/{name}"
for protocol, channel in [("channel.k8s.io", b"\x01"), ("v4.channel.k8s.io", b"\x01"), ("base64.channel.k8s.io", b"1")]:
    socket = connect(f"{pod}/exec?command=echo&command=hi&stdout=1", protocol)
    assert socket.getsubprotocol() == protocol
    said = b""
    while len(said) < 3:
        code, message = socket.recv_data()
        if message[:1] == channel:
            said += message[1:]
    assert said == (b"aGkK" if protocol.startswith("base64") else b"hi\n"), said
    socket.close()

# The first message says that the connection stands; the status is one message, and then the server closes.
socket = connect(f"{pod}/exec?command=echo&command=hi&stdout=1", "v5.channel.k8s.io")
first, *middle, last = messages(socket)
assert first == b"\x01" and b"".join(message[1:] for message in middle) == b"hi\n", (first, middle)
assert last[:1] == b"\x03" and json.loads(last[1:])["status"] == "Success", last

# Messages for nobody change nothing, and a message that is too long is refused.
socket = connect(f"{pod}/exec?command=cat&stdin=1&stdout=1", "v5.channel.k8s.io")
for message in [b"", b"\x01x", b"\x04{}", b"\x63x", b"\xff", b"\xff\x07", b"\x00kept", b"\xff\x00", b"\x00late"]:
    socket.send_binary(message)
*said, last = messages(socket)
assert b"".join(message[1:] for message in said) == b"kept", said
assert json.loads(last[1:])["status"] == "Success", last

# Logs as messages.
for protocols, expected in [([], b"hello from box\n"), (["binary.k8s.io"], b"hello from box\n"),
                            (["base64.binary.k8s.io"], b"aGVsbG8gZnJvbSBib3gK")]:
    socket = connect(f"{pod}/log", *protocols)
    assert socket.getsubprotocol() == (protocols or [None])[0]
    assert b"".join(messages(socket)) == expected, protocols

print("all good")
