#!/bin/sh
# One measurement a second, in basic, 256 and true colours.
n=0
while :; do
    n=$((n + 1))
    printf '\033[36mtemp\033[0m=2%d.%d \033[38;5;208mhumidity\033[0m=4%d%% \033[38;2;120;90;220mlux\033[0m=%d\n' \
        $((n % 4)) $((n % 10)) $((n % 9)) $((300 + n))
    sleep 1
done
