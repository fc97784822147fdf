//! Whether a caller may start an operation over the socket.

use async_graphql::parser::types::OperationType;

use crate::{
    auth::principal::Principal,
    graphql::error::{ApiError, ErrorCode},
};

/// Asked before each operation.
#[derive(Debug, Clone, Copy, Default)]
pub struct Gate;

impl Gate {
    /// Lets an operation through, or not. An agent's signature covers the upgrade request and no operation after it,
    /// so agents change nothing over the socket.
    ///
    /// # Errors
    /// `FORBIDDEN` for mutations of agents.
    pub async fn operation(
        &self,
        principal: &Principal,
        kind: OperationType,
    ) -> Result<(), ApiError> {
        if principal.key().is_some() && kind == OperationType::Mutation {
            return Err(ApiError::new(
                ErrorCode::Forbidden,
                "Agents query and subscribe over the WebSocket: send mutations as signed HTTP requests.",
            ));
        }
        Ok(())
    }
}
