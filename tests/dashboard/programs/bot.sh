#!/bin/sh
# Cannot work without its configuration.
echo "missing DB_URL" >&2
exit 78
