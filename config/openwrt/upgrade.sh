# shellcheck shell=dash disable=SC2034,SC2154
# Carries the flows over a sysupgrade, which ends every process without running
# its stop script and keeps no files but those that it is told of.

add_firmware_ctd_checkpoint() {
	local filelist="$1"
	local config=/etc/firmware-ctd.toml
	local directory file

	# Not into backups: the flows would come back weeks later.
	[ -z "$NEED_IMAGE" ] && [ "$CONF_BACKUP_LIST" != 1 ] || return 0

	directory="$(sed -n '/^\[checkpoint\]/,/^\[/s/^[[:space:]]*directory[[:space:]]*=[[:space:]]*"\(\/[^"]*\)".*/\1/p' "$config")"
	[ -n "$directory" ] || return 0

	# Older images than that are not worth keeping.
	/usr/sbin/firmware-ctd checkpoint save --wait 10 || return 0

	for file in "$directory"/a.ckpt "$directory"/b.ckpt; do
		if [ -f "$file" ] && ! grep -qxF "$file" "$filelist" 2>/dev/null; then
			echo "$file" >>"$filelist"
		fi
	done
	return 0
}

sysupgrade_init_conffiles="$sysupgrade_init_conffiles add_firmware_ctd_checkpoint"
