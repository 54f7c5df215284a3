//! A router that is taken away and made anew, as a reboot does: its table, its addresses and its
//! interfaces are gone; the hosts around it go on.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::error::{Context, LabError};
use super::hosts::Hosts;
use super::topology::Side;
use super::{Lab, Netns, Options, Router, firewall, links_of, plug, quiet};

/// Hosts whose router is off: what they send is lost.
#[derive(Debug)]
pub struct Orphans {
    hosts: Hosts,
    options: Options,
}

impl Lab {
    /// Takes the router away. Programs in it must have ended, or they keep its namespace.
    ///
    /// `options` are those of the lab.
    #[must_use]
    pub fn power_off(self, options: &Options) -> Orphans {
        Orphans { hosts: self.hosts, options: *options }
    }
}

impl Orphans {
    /// The hosts, which notice nothing but silence.
    pub const fn hosts(&mut self) -> &mut Hosts {
        &mut self.hosts
    }

    /// How their lab was made.
    #[must_use]
    pub const fn options(&self) -> Options {
        self.options
    }

    /// A new router for these hosts. `early` runs when its firewall is up and its interfaces are
    /// not yet: as OpenWrt starts what restores flows.
    ///
    /// # Errors
    /// Those of `early`, or where the machine forbids it.
    pub fn power_on<T>(
        self,
        early: impl FnOnce(&Netns) -> Result<T, LabError>,
    ) -> Result<(Lab, T), LabError> {
        let Self { mut hosts, options } = self;
        let netns = Netns::new()?;
        let mut links = links_of(&netns)?;
        links.up("lo", None)?;
        quiet(&netns)?;
        firewall(&netns)?;
        let made = early(&netns)?;
        for side in [Side::Lan, Side::Wan] {
            let port = plug(&netns, &mut links, side, &options)?;
            hosts.replug(side, port);
        }
        Ok((Lab { router: Router::new(netns, links)?, hosts }, made))
    }
}

/// The id of a boot, for programs that are started with it: see [`super::daemon::Daemon::start_booted`].
#[derive(Debug)]
pub struct BootId {
    path: PathBuf,
}

impl BootId {
    /// Boot number `number`, told by a file in `directory`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn new(directory: &Path, number: u8) -> Result<Self, LabError> {
        let path = directory.join(format!("boot_id.{number}"));
        let text = format!("00000000-0000-4000-8000-0000000000{number:02x}\n");
        std::fs::File::create(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .context("writing a boot id")?;
        Ok(Self { path })
    }

    /// The file that tells it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}
