#!/bin/sh
# loopback.sh COMMAND…: run it where this host's name is 127.0.0.1, as SLURM on one machine needs: as it is where that
# is so already, else in a network and host-name namespace of its own (root, or unprivileged user namespaces).
set -eu
if [ "$(getent ahostsv4 "$(hostname -s)" | awk 'NR == 1 {print $1}')" = 127.0.0.1 ]; then
    exec "$@"
fi
share="unshare --net --uts"
[ "$(id -u)" = 0 ] || share="$share --map-current-user --keep-caps"
# A second address: with 127.0.0.1 alone getaddrinfo, as SLURM calls it, finds no IPv4.
exec $share sh -c 'ip link set lo up && ip addr add 127.0.0.2/32 dev lo && hostname localhost && exec "$@"' loopback "$@"
