#!/bin/sh
# One of several: the same program, told apart by PMD_INSTANCE. Leaves in order when asked to.
trap 'echo "worker $PMD_INSTANCE leaves the queue $QUEUE"; exit 0' INT TERM
echo "worker $PMD_INSTANCE waits at the queue $QUEUE"
while :; do
    sleep 1
done
