#!/bin/sh
# enter.sh BOARD PACKAGE ROOT SCRIPT: runs SCRIPT where the package is installed.
# ROOT, an empty directory, becomes a root file system in memory: busybox, what
# is in PACKAGE, and what stands for OpenWrt in BOARD. Nothing else of this
# machine is in it but its devices.
set -eu

board="$1" package="$2" root="$3" script="$4"

mount -t tmpfs board "$root"
cp -a "$package/." "$board/." "$root"

busybox="$(command -v busybox)"
mkdir -p "$root/bin" "$root/sbin" "$root/usr/bin" "$root/usr/sbin"
cp "$busybox" "$root/bin/busybox"
# Debian's is dynamic, or static in another package.
for library in $(ldd "$busybox" 2>/dev/null | grep -o '/[^ ]*' || true); do
	mkdir -p "$root$(dirname "$library")"
	cp -L "$library" "$root$library"
done

mkdir -p "$root/dev" "$root/proc" "$root/tmp" "$root/var/run"
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"

export ASKED=/tmp/asked
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
exec chroot "$root" /bin/busybox sh -euc "busybox --install -s; : >$ASKED; $script"
