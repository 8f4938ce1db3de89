//! Paths of the API.

/// Path of [`super::Status`].
pub const STATUS: &str = "/v1/status";
/// Path of [`crate::listener::Listeners`].
pub const LISTENERS: &str = "/v1/listeners";
/// Path of [`super::States`].
pub const STATES: &str = "/v1/states";
/// Path of [`super::Alerts`].
pub const ALERTS: &str = "/v1/alerts";
/// Path of [`super::Ports`].
pub const PORTS: &str = "/v1/ports";
/// Path of [`crate::explain::BindAnswer`].
pub const EXPLAIN_BIND: &str = "/v1/explain/bind";
/// Path of [`crate::explain::ConnectAnswer`].
pub const EXPLAIN_CONNECT: &str = "/v1/explain/connect";
/// Path of [`crate::explain::ListenAnswer`].
pub const EXPLAIN_LISTEN: &str = "/v1/explain/listen";
/// All of them.
pub const ALL: [&str; 8] = [STATUS, LISTENERS, STATES, ALERTS, PORTS, EXPLAIN_BIND, EXPLAIN_CONNECT, EXPLAIN_LISTEN];
