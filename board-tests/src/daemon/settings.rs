//! The configuration that a test gives the daemon: a default for everything it does not care for.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// What a test may choose; the rest is the daemon's default.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `events.receive_buffer` in bytes.
    pub receive_buffer: u32,
    /// `table.capacity`.
    pub capacity: u32,
    /// `table.refresh_s`.
    pub refresh_s: u32,
    /// `kernel.manage_sysctls`.
    pub manage_sysctls: bool,
    /// `max_bytes` of the sink.
    pub max_bytes: u64,
    /// `control.clients`.
    pub clients: u32,
    /// `log.target`.
    pub log: &'static str,
    /// The sink's path below the daemon's directory.
    pub sink: PathBuf,
    /// Lines put at the end as they are.
    pub more: &'static str,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            receive_buffer: 512 << 10,
            capacity: 16_384,
            refresh_s: 60,
            manage_sysctls: true,
            max_bytes: 1 << 30,
            clients: 8,
            log: "stderr",
            sink: PathBuf::from("flows.jsonl"),
            more: "",
        }
    }
}

impl Settings {
    /// Where records go for a daemon in `directory`.
    #[must_use]
    pub fn sink(&self, directory: &Path) -> PathBuf {
        directory.join(&self.sink)
    }

    /// The file's text for a daemon in `directory`.
    #[must_use]
    pub fn toml(&self, directory: &Path) -> String {
        let mut text = String::new();
        let parts = [
            format!("[kernel]\nmanage_sysctls = {}\n", self.manage_sysctls),
            format!("[events]\nreceive_buffer = {}\n", self.receive_buffer),
            format!("[table]\ncapacity = {}\nrefresh_s = {}\n", self.capacity, self.refresh_s),
            format!("[log]\ntarget = {:?}\n", self.log),
            format!(
                "[control]\nsocket = {:?}\nclients = {}\n",
                directory.join("ctd.sock"),
                self.clients
            ),
            format!(
                "[[sink]]\ntype = \"file\"\npath = {:?}\nmax_bytes = {}\n",
                self.sink(directory),
                self.max_bytes
            ),
        ];
        for part in parts {
            text.push_str(&part);
        }
        // A String takes everything.
        let _ = writeln!(text, "{}", self.more);
        text
    }
}
