#!/bin/sh
# The steady one: says the time every five seconds, for as long as it is let.
while :; do
    echo "it is $(date +%H:%M:%S)"
    sleep 5
done
