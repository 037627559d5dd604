//! The group that every authenticated user is in.

use async_trait::async_trait;

use super::{AuthError, AuthRequest, Authenticated, Authenticator};
use crate::user::{AUTHENTICATED, UNAUTHENTICATED};

/// Adds `system:authenticated` to whom the inner authenticator names.
pub struct AuthenticatedGroup<A>(pub A);

#[async_trait]
impl<A: Authenticator> Authenticator for AuthenticatedGroup<A> {
    async fn authenticate(&self, request: &AuthRequest<'_>) -> Result<Option<Authenticated>, AuthError> {
        Ok(self.0.authenticate(request).await?.map(with_group))
    }
}

fn with_group(mut found: Authenticated) -> Authenticated {
    let groups = &mut found.user.groups;
    if !groups.iter().any(|g| g == AUTHENTICATED || g == UNAUTHENTICATED) {
        groups.push(AUTHENTICATED.into());
    }
    found
}
