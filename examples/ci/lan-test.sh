#!/bin/sh
# Tries a network configuration without any hardware: makes a LAN with a DHCP server in network
# namespaces, starts the daemon, and has cnitool attach, check and detach a container.
#
#     lan-test.sh PLUGINS CONFLIST
#
# PLUGINS is the directory of macvlan and dhcp; the parent in CONFLIST must be eth1. Needs root,
# iproute2, util-linux, dnsmasq and cnitool. The exit status is 0 if everything works.
set -eu
if [ $# != 2 ]; then
    echo "usage: $0 PLUGINS CONFLIST: the directory of macvlan and dhcp, and a network configuration" >&2
    exit 2
fi
plugins=$1
conflist=$2
for needed in dnsmasq cnitool ip nsenter "$plugins/dhcp" "$plugins/macvlan"; do
    command -v "$needed" >/dev/null || { echo "$0 needs $needed, which is not there" >&2; exit 2; }
done

# All of it happens in namespaces of its own, which end with the script.
if [ -z "${LAN_TEST_INSIDE-}" ]; then
    export LAN_TEST_INSIDE=1
    exec unshare --net --mount --pid --fork --kill-child --mount-proc sh "$0" "$@"
fi
mount -t tmpfs none /run
mount -t tmpfs none /var/lib
mkdir /run/netns /run/net.d

# The host's eth1 is connected to the LAN, where a server leases addresses.
ip netns add lan
ip link set lo up
ip link add eth1 type veth peer name eth0 netns lan
ip link set eth1 up
ip -n lan address add 192.168.1.1/24 dev eth0
ip -n lan link set eth0 up
nsenter --net=/run/netns/lan dnsmasq --no-daemon --conf-file=/dev/null --user=root \
    --port=0 --interface=eth0 --dhcp-range=192.168.1.50,192.168.1.99 --dhcp-leasefile=/run/leases \
    --pid-file= &

"$plugins/dhcp" daemon &
attempts=0
until "$plugins/dhcp" status; do
    attempts=$((attempts + 1))
    [ "$attempts" -lt 100 ] || exit 1
    sleep 0.1
done

ip netns add container
cp "$conflist" /run/net.d/
name=$(sed -n 's/.*"name": *"\([^"]*\)".*/\1/p' "$conflist" | head -n 1)
export CNI_PATH="$plugins" NETCONFPATH=/run/net.d
cnitool add "$name" /run/netns/container
cnitool check "$name" /run/netns/container
ip -n container address show eth0
cnitool del "$name" /run/netns/container
if ip -n container link show eth0 2>/dev/null; then
    echo "DEL left the interface" >&2
    exit 1
fi
echo "$conflist works"
