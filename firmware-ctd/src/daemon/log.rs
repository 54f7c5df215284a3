//! The log back-end.
