//! What an error of the database asks for, and how it is said. Pure.
//!
//! | class of SQLSTATE | means | failure |
//! | --- | --- | --- |
//! | none | no connection, a time-out, TLS | Unavailable |
//! | 22, 23, 44, P0 | it refuses these rows: a value, a constraint, a trigger | Refused |
//! | 0A, 3F, 42 | the table, its shape or permissions | Misfit |
//! | any other (08, 25, 28, 3D, 40, 53, 55, 57, 58, XX …) | the server is not up to it now, or not for this user | Unavailable |
//!
//! A wrong password or a missing database is among the latter: it may be right again without anything changing here.

use std::error::Error as _;

use crate::delivery::transport::{Failure, one_line};
use crate::engine::outbox::ERROR_BYTES_MAX;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub failure: Failure,
    /// One line, no longer than the log keeps.
    pub reason: String,
    /// The connection is gone, which says nothing of the server.
    pub is_disconnected: bool,
}

impl Problem {
    pub fn new(failure: Failure, reason: impl AsRef<str>) -> Self {
        Self { failure, reason: one_line(reason.as_ref(), ERROR_BYTES_MAX), is_disconnected: false }
    }

    /// Of an error while doing something, as in "the upsert".
    pub fn of(doing: &str, error: &tokio_postgres::Error) -> Self {
        if let Some(said) = error.as_db_error() {
            let code = said.code().code();
            let detail = said.detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
            let reason = format!("{doing}: {} {code}: {}{detail}", said.severity(), said.message());
            let is_disconnected = code.starts_with("57P0");
            return Self { is_disconnected, ..Self::new(failure_of(code), reason) };
        }
        let mut reason = format!("{doing}: {error}");
        let mut source = error.source();
        while let Some(cause) = source {
            reason = format!("{reason}: {cause}");
            source = cause.source();
        }
        if reason.contains("UnknownIssuer") {
            reason.push_str(" (the server's certificate is of no authority that this system trusts)");
        }
        Self { is_disconnected: true, ..Self::new(Failure::Unavailable, reason) }
    }
}

fn failure_of(code: &str) -> Failure {
    match code.get(..2) {
        Some("22" | "23" | "44" | "P0") => Failure::Refused,
        Some("0A" | "3F" | "42") => Failure::Misfit,
        _ => Failure::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_of_errors_asks_for_its_own_failure() {
        for (codes, failure) in [
            (&["22003", "22P05", "23514", "44000", "P0001"][..], Failure::Refused),
            (&["42P01", "42703", "42501", "42804", "3F000", "0A000"], Failure::Misfit),
            (
                &[
                    "08006", "25006", "28P01", "3D000", "40001", "40P01", "53100", "55P03", "57014", "57P01", "XX000",
                    "",
                ],
                Failure::Unavailable,
            ),
        ] {
            assert!(codes.iter().all(|code| failure_of(code) == failure), "{codes:?}");
        }
    }

    #[test]
    fn a_reason_is_one_line_of_bounded_length() {
        let problem = Problem::new(Failure::Refused, format!("a\nb\t{}", "ü".repeat(ERROR_BYTES_MAX)));
        assert!(problem.reason.starts_with("a b ü"));
        assert!(problem.reason.len() <= ERROR_BYTES_MAX && problem.reason.len() > ERROR_BYTES_MAX - 4);
    }
}
