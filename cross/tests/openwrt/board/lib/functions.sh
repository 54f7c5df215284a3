# Stands for OpenWrt's functions.sh: writes down what a package's scripts call.

default_postinst() { echo "default_postinst $*" >>"$ASKED"; }
default_prerm() { echo "default_prerm $*" >>"$ASKED"; }
