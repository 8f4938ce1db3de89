//! What the API answers when there is no answer.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use tracker_model::api::ApiError;

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
