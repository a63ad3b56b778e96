#!/bin/sh
# The one that crashes now and then, after 3 to 9 seconds, with a last word on stderr. It lives
# longer than its minimal uptime (one second), so it is back at once.
life=$((3 + $$ % 7))
echo "here I am, process $$; this will end badly in $life seconds"
sleep "$life"
echo "out of luck" >&2
exit 3
