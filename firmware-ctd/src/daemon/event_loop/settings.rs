//! The kernel's settings: looked at from time to time, set again if that is wanted, and told.

use std::io;

use super::super::log::{InWords, RateLimit};
use super::super::sysctl::{self, Setting};
use super::EventLoop;
use crate::limited;
use crate::time::{Duration, Instant};

/// How often they are looked at.
pub(super) const PERIOD: Duration = Duration::from_secs(10);

impl EventLoop<'_> {
    /// Looks at them, if it is time.
    pub(super) fn check_settings(&mut self, now: Instant) {
        if now < self.settings_at {
            return;
        }
        self.settings_at = now + PERIOD;
        let stats = self.engine.stats_mut();
        sysctl::check(self.manage_sysctls, |setting, value, result| {
            if let Some(Ok(())) = result {
                stats.settings_restored += 1;
            }
            tell_setting(setting, value, result);
        });
    }
}

/// Logs a kernel setting that is not as wanted.
pub fn tell_setting(setting: Setting, value: u32, result: Option<io::Result<()>>) {
    static LIMIT: RateLimit = RateLimit::new(6, 300);
    let (name, without) = (setting.name(), setting.without());
    match result {
        Some(Ok(())) => {
            limited!(LIMIT, log::Level::Info, "{name} was {value}, set to 1");
        }
        Some(Err(error)) => limited!(
            LIMIT,
            log::Level::Warn,
            "{name} is {value} and cannot be set ({}): {without}; set it to 1 in sysctl.conf",
            InWords(&error)
        ),
        None => limited!(
            LIMIT,
            log::Level::Warn,
            "{name} is {value}: {without}; set it to 1, or kernel.manage_sysctls = true"
        ),
    }
}
