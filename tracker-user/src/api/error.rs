//! What the API answers when there is no answer.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Body of an answer whose status is not 200.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ApiError {
    /// Why, in one line.
    pub error: String,
}

pub(super) fn refuse(status: StatusCode, error: String) -> Response {
    (status, Json(ApiError { error })).into_response()
}

/// There are no figures.
pub(super) fn starting() -> Response {
    refuse(StatusCode::SERVICE_UNAVAILABLE, "the daemon starts or stops; try again".to_owned())
}

/// Others ask for the same costly thing.
pub(super) fn busy() -> Response {
    refuse(StatusCode::SERVICE_UNAVAILABLE, "too many ask at once; try again".to_owned())
}
