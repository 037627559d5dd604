//! Requests without credentials.

use async_trait::async_trait;

use super::{AuthError, AuthRequest, Authenticated, Authenticator};
use crate::user::{ANONYMOUS, UNAUTHENTICATED, UserInfo};

/// Names everybody `system:anonymous`; it stands last.
pub struct Anonymous;

#[async_trait]
impl Authenticator for Anonymous {
    async fn authenticate(&self, _: &AuthRequest<'_>) -> Result<Option<Authenticated>, AuthError> {
        let user = UserInfo { name: ANONYMOUS.into(), groups: vec![UNAUTHENTICATED.into()], ..UserInfo::default() };
        Ok(Some(Authenticated::user(user)))
    }
}
