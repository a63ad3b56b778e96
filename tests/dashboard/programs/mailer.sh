#!/bin/sh
# Connects to nobody, and says so.
echo "connecting to smtp.example.com:25"
sleep 2
echo "connection refused (smtp.example.com:25)" >&2
exit 3
