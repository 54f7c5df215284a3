//! Why dumps are made.

/// Why a dump is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The first one: to learn what lived before the daemon.
    Start,
    /// To bring counters and timeouts up to date.
    Refresh,
    /// Events were lost.
    Resync,
    /// To see whether what an earlier one missed is really gone.
    Confirm,
    /// Somebody is about to save what lives: see [`Engine::want_dump`](crate::engine::Engine::want_dump).
    Save,
}

impl Purpose {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Refresh => "refresh",
            Self::Resync => "resync",
            Self::Confirm => "confirm",
            Self::Save => "save",
        }
    }
}
