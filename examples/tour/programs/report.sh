#!/bin/sh
# The job: does its work once, says what came of it, and is done ("restart": "never").
count=$(ls /proc | grep -c '^[0-9]')
echo "$count processes run on this host"
