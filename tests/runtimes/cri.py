"""Speaks the CRI to containerd, as a kubelet does: cri.py SOCKET METHOD ARGUMENT...

The messages are few and written out by hand, so Debian's python3-grpcio is all it takes. Field numbers are those of
k8s.io/cri-api, pkg/apis/runtime/v1/api.proto.
"""

import sys

import grpc

STOP_PATIENCE = 1  # seconds


def varint(number):
    octets = bytearray()
    while number > 0x7F:
        octets.append(number & 0x7F | 0x80)
        number >>= 7
    octets.append(number)
    return bytes(octets)


def message(fields):
    """Encodes {number: value}; a value is an int, a str, bytes (a message), or a list of these."""
    encoded = b""
    for number, values in fields.items():
        for value in values if isinstance(values, list) else [values]:
            if isinstance(value, int):
                encoded += varint(number << 3) + varint(value)
            else:
                octets = value.encode() if isinstance(value, str) else value
                encoded += varint(number << 3 | 2) + varint(len(octets)) + octets
    return encoded


def fields(octets):
    """Decodes a message to {number: last value}: integers and bytes are all that the replies hold."""
    decoded, at = {}, 0

    def read():
        nonlocal at
        number = shift = 0
        while True:
            octet = octets[at]
            at += 1
            number |= (octet & 0x7F) << shift
            shift += 7
            if octet < 0x80:
                return number

    while at < len(octets):
        tag = read()
        if tag & 7 == 0:
            decoded[tag >> 3] = read()
        elif tag & 7 == 2:
            length = read()
            decoded[tag >> 3] = octets[at : at + length]
            at += length
        else:
            raise ValueError(f"wire type {tag & 7} is not expected")
    return decoded


def sandbox(name):
    """PodSandboxConfig: a pod in the default namespace with a PID namespace per container."""
    metadata = message({1: name, 2: f"uid-of-{name}", 3: "default"})
    namespaces = message({2: 1})
    return message({1: metadata, 2: name, 8: message({2: message({1: namespaces})})})


def container(name, image):
    """ContainerConfig."""
    return message({1: message({1: name}), 2: message({1: image})})


def main(socket, method, *arguments):
    channel = grpc.insecure_channel(f"unix:{socket}", options=[("grpc.default_authority", "localhost")])

    def call(name, request):
        return fields(channel.unary_unary(f"/runtime.v1.RuntimeService/{name}")(request, timeout=60))

    def text(reply, number):
        return reply.get(number, b"").decode()

    match method, arguments:
        case "run-pod", [name]:
            print(text(call("RunPodSandbox", message({1: sandbox(name)})), 1))
        case "pod-address", [pod]:
            status = fields(call("PodSandboxStatus", message({1: pod}))[1])
            print(text(fields(status.get(5, b"")), 1))
        case "run-container", [pod, pod_name, name, image]:
            request = message({1: pod, 2: container(name, image), 3: sandbox(pod_name)})
            identity = text(call("CreateContainer", request), 1)
            call("StartContainer", message({1: identity}))
            print(identity)
        case "exec", [identity, *command]:
            reply = call("ExecSync", message({1: identity, 2: command, 3: 20}))
            print(text(reply, 1) + text(reply, 2), end="")
            sys.exit(reply.get(3, 0))
        case "remove-container", [identity]:
            call("StopContainer", message({1: identity, 2: STOP_PATIENCE}))
            call("RemoveContainer", message({1: identity}))
        case "stop-pod", [pod]:
            call("StopPodSandbox", message({1: pod}))
        case "remove-pod", [pod]:
            call("RemovePodSandbox", message({1: pod}))
        case _:
            sys.exit(f"no such method: {method} {arguments}")


try:
    main(*sys.argv[1:])
except grpc.RpcError as error:
    sys.exit(f"{sys.argv[2]}: {error.code().name}: {error.details()}")
