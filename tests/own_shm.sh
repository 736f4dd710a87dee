#!/bin/sh
# own_shm.sh command...: run a command with a /dev/shm of its own. Runs of the tests side by side then do not see each other's
# objects, and what a broken run leaves behind ends with it. Where the system does not allow it, commands take turns.
own='mount --make-rprivate / && mount -t tmpfs -o size=4g,mode=1777 tmpfs /dev/shm && exec "$@"'
if unshare -m sh -c "$own" sh true 2>/dev/null; then
    exec unshare -m sh -c "$own" sh "$@"
fi
exec flock --close "$0" "$@"
