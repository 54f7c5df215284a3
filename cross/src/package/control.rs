//! What a package says of itself to opkg.
//!
//! The fields are OpenWrt's, in OpenWrt's order (`include/package-pack.mk`); fields that would be
//! empty are left out. There is no `Require-User`: the daemon is started by procd as root and needs
//! nobody else.

/// Name of the package, as in the feed's Makefile.
pub(super) const NAME: &str = "firmware-ctd";

/// Which package of the same version, `PKG_RELEASE` in the feed's Makefile.
pub(super) const RELEASE: u32 = 1;

/// What must be installed besides.
pub(super) const DEPENDS: &str = "kmod-nf-conntrack-netlink";

/// The recipe that makes the same package in OpenWrt's build system.
const SOURCE: &str = "cross/openwrt/firmware-ctd";

const LICENCE_FILES: &str = "LICENSE-MIT LICENSE-APACHE";

const SECTION: &str = "net";

/// Lines of the description, the first a summary.
const DESCRIPTION: [&str; 4] = [
    "Makes connection tracking dependable: receives the kernel's conntrack events",
    "reliably, accounts every flow exactly, and carries connections over a",
    "reboot. Records go to files, local programs, syslog and IPFIX collectors.",
    "Memory is fixed at start; the configuration is /etc/firmware-ctd.toml.",
];

/// What differs between packages.
#[derive(Clone, Debug)]
pub(super) struct Control<'a> {
    /// Version of the program.
    pub(super) version: &'a str,
    /// SPDX expression.
    pub(super) licence: &'a str,
    /// OpenWrt's name of the architecture.
    pub(super) architecture: &'a str,
    /// Whether it is linked with OpenWrt's C library.
    pub(super) needs_libc: bool,
    /// Seconds since 1970 that everything in it is dated.
    pub(super) epoch: u64,
    /// Bytes of its files as a tar file.
    pub(super) installed_size: usize,
}

impl Control<'_> {
    /// Version and release of the package.
    pub(super) fn version(&self) -> String {
        format!("{}-r{RELEASE}", self.version)
    }

    /// Name of the package's file.
    pub(super) fn file_name(&self) -> String {
        format!("{NAME}_{}_{}.ipk", self.version(), self.architecture)
    }

    /// The file `control`.
    pub(super) fn text(&self) -> String {
        let libc = if self.needs_libc { "libc, " } else { "" };
        let fields = [
            ("Package", NAME.to_owned()),
            ("Version", self.version()),
            ("Depends", format!("{libc}{DEPENDS}")),
            ("Source", SOURCE.to_owned()),
            ("SourceName", NAME.to_owned()),
            ("License", self.licence.to_owned()),
            ("LicenseFiles", LICENCE_FILES.to_owned()),
            ("Section", SECTION.to_owned()),
            ("SourceDateEpoch", self.epoch.to_string()),
            ("Architecture", self.architecture.to_owned()),
            ("Installed-Size", self.installed_size.to_string()),
            // The space is OpenWrt's: it puts one before every line.
            ("Description", format!(" {}", DESCRIPTION.join("\n "))),
        ];
        fields.iter().map(|(name, value)| format!("{name}: {value}\n")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Control;

    fn control(needs_libc: bool) -> Control<'static> {
        Control {
            version: "1.2.3",
            licence: "MIT",
            architecture: "mips_24kc",
            needs_libc,
            epoch: 7,
            installed_size: 10_240,
        }
    }

    #[test]
    fn the_file_is_named_by_version_release_and_architecture() {
        assert_eq!(control(false).file_name(), "firmware-ctd_1.2.3-r1_mips_24kc.ipk");
    }

    #[test]
    fn a_library_is_asked_for_only_when_needed() {
        let depends = |needs| {
            let text = control(needs).text();
            text.lines().find_map(|it| it.strip_prefix("Depends: ")).unwrap().to_owned()
        };
        assert_eq!(depends(false), "kmod-nf-conntrack-netlink");
        assert_eq!(depends(true), "libc, kmod-nf-conntrack-netlink");
    }

    #[test]
    fn lines_of_a_field_go_on_with_a_space() {
        let text = control(false).text();
        let (_, description) = text.split_once("Description: ").unwrap();
        assert!(description.lines().all(|line| line.starts_with(' ') && line.len() <= 79));
    }
}
