//! Tests of the log back-end.
