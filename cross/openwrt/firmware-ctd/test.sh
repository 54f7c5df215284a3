#!/bin/sh
# Run by the packages feed's CI where the package is installed: NAME VERSION.

[ "$1" = firmware-ctd ] || exit 0

fail() {
	echo "$1"
	exit 1
}

said="$(firmware-ctd --version)" || fail "--version ends with $?"
[ "$said" = "firmware-ctd $2" ] || fail "--version says \"$said\", not \"firmware-ctd $2\""

firmware-ctd validate -c /etc/firmware-ctd.toml || fail "the shipped configuration is refused"

sh -n /etc/init.d/firmware-ctd || fail "the init script is no shell script"
sh -n /lib/upgrade/firmware-ctd.sh || fail "the upgrade hook is no shell script"

# Without a daemon its clients say so, and what to do.
firmware-ctd status
[ $? = 69 ] || fail "status without a daemon does not end with 69"

# A file that is no image is told from one.
firmware-ctd checkpoint verify /etc/firmware-ctd.toml
[ $? = 65 ] || fail "a configuration passes for a checkpoint"
