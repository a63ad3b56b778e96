#!/bin/sh
# Works hard for a while, then rests.
echo "worker $NODE_APP_INSTANCE ready"
while :; do
    i=0
    while [ $i -lt 60000 ]; do i=$((i + 1)); done
    echo "batch of worker $NODE_APP_INSTANCE done"
    sleep 3
done
