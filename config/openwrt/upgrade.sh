# shellcheck shell=dash disable=SC2034,SC2154
# Carries the flows over a sysupgrade, which ends every process without running
# its stop script and keeps no files but those that it is told of.

add_firmware_ctd_checkpoint() {
	local filelist="$1"
	local image

	# Not into backups: the flows would come back weeks later.
	[ -z "$NEED_IMAGE" ] && [ "$CONF_BACKUP_LIST" != 1 ] || return 0

	# A configuration that was made wrong since tells no socket.
	set -- checkpoint save --wait 10
	if /usr/sbin/firmware-ctd validate -c /etc/firmware-ctd.toml >/dev/null 2>&1; then
		set -- "$@" -c /etc/firmware-ctd.toml
	fi

	# Without a daemon, or without checkpoints, there is nothing to carry; it
	# says so. An image that lies there from before is too old.
	image="$(/usr/sbin/firmware-ctd "$@" | sed -n 's/^image //p')"

	if [ -n "$image" ] && ! grep -qxF "$image" "$filelist" 2>/dev/null; then
		echo "$image" >>"$filelist"
	fi
	return 0
}

sysupgrade_init_conffiles="$sysupgrade_init_conffiles add_firmware_ctd_checkpoint"
