//! What the kernel's command line says to the first process: words `board.NAME=VALUE`.

use std::path::PathBuf;

use board_guest::error::{Context, LabError};

/// What flash there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Flash {
    /// A partition of the flash chip, by its name (`_` for a space), with jffs2.
    Mtd(String),
    /// A block device with a file system of that type.
    Block(PathBuf, String),
}

/// How to boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// The serial port of the channel.
    pub(crate) channel: PathBuf,
    pub(crate) flash: Option<Flash>,
    /// Hosts that there are on the LAN and on the WAN.
    pub(crate) hosts: (u8, u8),
    /// Show the daemon's log on the console too.
    pub(crate) show_log: bool,
}

impl Options {
    /// Those of this boot.
    pub(crate) fn read() -> Result<Self, LabError> {
        let line = std::fs::read_to_string("/proc/cmdline").context("reading the command line")?;
        Ok(Self::parse(&line))
    }

    fn parse(line: &str) -> Self {
        let value = |name: &str| {
            let mut words = line.split_whitespace().filter_map(|word| word.split_once('='));
            words.find(|(key, _)| key.strip_prefix("board.") == Some(name)).map(|(_, value)| value)
        };
        let number = |name: &str| value(name).and_then(|text| text.parse().ok()).unwrap_or(1);
        Self {
            channel: value("channel").unwrap_or("/dev/ttyS1").into(),
            flash: value("flash").map(|text| match text.split_once(':') {
                Some(("mtd", name)) => Flash::Mtd(name.replace('_', " ")),
                Some((device, kind)) => Flash::Block(device.into(), kind.to_owned()),
                None => Flash::Block(text.into(), "ext4".to_owned()),
            }),
            hosts: (number("lan"), number("wan")),
            show_log: value("log") == Some("console"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Flash, Options};

    #[test]
    fn words_of_others_are_left_alone() {
        let line = "console=ttyS0 board.flash=mtd:User_FS board.lan=9 quiet board.log=console";
        let wanted = Options {
            channel: "/dev/ttyS1".into(),
            flash: Some(Flash::Mtd("User FS".to_owned())),
            hosts: (9, 1),
            show_log: true,
        };
        assert_eq!(Options::parse(line), wanted);
        let options = Options::parse("board.flash=/dev/vda:ext4 board.channel=/dev/vport0p1");
        assert_eq!(options.flash, Some(Flash::Block("/dev/vda".into(), "ext4".to_owned())));
        assert_eq!(options.channel.to_str(), Some("/dev/vport0p1"));
    }
}
