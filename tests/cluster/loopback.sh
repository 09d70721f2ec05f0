#!/bin/sh
# loopback.sh COMMAND…: run a command where the host name resolves to 127.0.0.1, as SLURM on one machine needs. If it does
# not, run the command in a new network and host-name namespace (as root, or with unprivileged user namespaces).
set -eu
if [ "$(getent ahostsv4 "$(hostname -s)" | awk 'NR == 1 {print $1}')" = 127.0.0.1 ]; then
    exec "$@"
fi
share="unshare --net --uts"
[ "$(id -u)" = 0 ] || share="$share --map-current-user --keep-caps"
# The second address makes SLURM's getaddrinfo call return IPv4; 127.0.0.1 alone does not.
exec $share sh -c 'ip link set lo up && ip addr add 127.0.0.2/32 dev lo && hostname localhost && exec "$@"' loopback "$@"
