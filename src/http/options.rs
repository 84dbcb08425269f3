//! What the HTTP edge may be told: where it listens, and the limit of everything a client can make it hold.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::model::Duration;

/// Sections `[server]` and, for what concerns a request, `[ingest]` of the config file; and the plans that it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where to listen. Port 0 lets the system pick one.
    pub listen: SocketAddr,
    /// Connections served at once; one more is answered 503 and counted.
    pub max_connections: usize,
    /// How long a client may take over a request's header.
    pub header_timeout: Duration,
    /// How long a client may take over a request's body.
    pub body_timeout: Duration,
    /// How long a connection may stay open without a request.
    pub idle_timeout: Duration,
    /// The longest body as it comes over the wire, in bytes.
    pub max_body_bytes: usize,
    /// The longest body once decompressed, in bytes.
    pub max_decoded_body_bytes: usize,
    /// Events in one request.
    pub max_events_per_request: usize,
    /// Reject events that do not say when they happened, instead of taking the time of receipt.
    pub require_timestamp: bool,
    /// The plans that a customer may have, in order. None: any.
    pub plans: Option<Vec<String>>,
    /// How many accounts `/metrics` names, those nearest to their hard caps. 0: none, and nothing is looked at.
    pub top_customers: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080),
            max_connections: 10_000,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(90),
            max_body_bytes: 8 << 20,
            max_decoded_body_bytes: 32 << 20,
            max_events_per_request: 50_000,
            require_timestamp: false,
            plans: None,
            top_customers: 0,
        }
    }
}
