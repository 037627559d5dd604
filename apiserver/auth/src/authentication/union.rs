//! Several authenticators as one.

use std::sync::Arc;

use async_trait::async_trait;

use super::{AuthError, AuthRequest, Authenticated, Authenticator};

/// Asks each in turn; the first that names a user decides. Where none does, the failures of those that saw credentials count.
pub struct Union(pub Vec<Arc<dyn Authenticator>>);

#[async_trait]
impl Authenticator for Union {
    async fn authenticate(&self, request: &AuthRequest<'_>) -> Result<Option<Authenticated>, AuthError> {
        let mut failures = Vec::new();
        for authenticator in &self.0 {
            match authenticator.authenticate(request).await {
                Ok(Some(found)) => return Ok(Some(found)),
                Ok(None) => {}
                Err(error) => failures.push(error),
            }
        }
        match failures.len() {
            0 => Ok(None),
            1 => Err(failures.remove(0)),
            _ => Err(AuthError::Several(failures)),
        }
    }
}

/// Asks the second only where the first saw no credentials at all, so that bad credentials are not taken for none.
pub struct Fallback {
    pub first: Arc<dyn Authenticator>,
    pub second: Arc<dyn Authenticator>,
}

#[async_trait]
impl Authenticator for Fallback {
    async fn authenticate(&self, request: &AuthRequest<'_>) -> Result<Option<Authenticated>, AuthError> {
        match self.first.authenticate(request).await? {
            Some(found) => Ok(Some(found)),
            None => self.second.authenticate(request).await,
        }
    }
}
