//! The static token file: lines of `token,user,uid,"group1,group2"`.

use std::collections::HashMap;
use std::path::Path;

use async_trait::async_trait;
use sha2::{Digest, Sha256};

use super::{AuthError, Authenticated, TokenAuthenticator};
use crate::UserInfo;

#[derive(Debug, thiserror::Error)]
pub enum TokenFileError {
    #[error("cannot read the token file {path}")]
    Read {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("the token file's line {line} has fewer than three columns (token, user name, uid)")]
    Columns { line: usize },
    #[error("the token file's line {line} has an empty {column}")]
    Empty { line: usize, column: &'static str },
}

/// Users by the hash of their token: a look-up tells nothing about tokens that are close.
#[derive(Debug)]
pub struct TokenFile {
    users: HashMap<[u8; 32], UserInfo>,
}

impl TokenFile {
    pub fn from_file(path: &Path) -> Result<Self, TokenFileError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| TokenFileError::Read { path: path.display().to_string(), source })?;
        Self::parse(&text)
    }

    fn parse(text: &str) -> Result<Self, TokenFileError> {
        let mut users = HashMap::new();
        for (index, row) in text.lines().enumerate() {
            let line = index + 1;
            if row.trim().is_empty() || row.starts_with('#') {
                continue;
            }
            let mut columns = columns(row).into_iter();
            let (Some(token), Some(name), Some(uid)) = (columns.next(), columns.next(), columns.next()) else {
                return Err(TokenFileError::Columns { line });
            };
            for (value, column) in [(&token, "token"), (&name, "user name")] {
                if value.is_empty() {
                    return Err(TokenFileError::Empty { line, column });
                }
            }
            let groups = columns.next().unwrap_or_default();
            let groups = groups.split(',').map(str::trim).filter(|g| !g.is_empty()).map(str::to_owned).collect();
            users.insert(Sha256::digest(token).into(), UserInfo { name, uid, groups, ..UserInfo::default() });
        }
        Ok(TokenFile { users })
    }
}

/// The columns of a comma-separated line; a column in double quotes may hold commas, and quotes written twice.
fn columns(row: &str) -> Vec<String> {
    let mut out = vec![String::new()];
    let mut quoted = false;
    let mut characters = row.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                out.last_mut().expect("never empty").push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => out.push(String::new()),
            _ => out.last_mut().expect("never empty").push(c),
        }
    }
    out.iter().map(|column| column.trim().to_owned()).collect()
}

#[async_trait]
impl TokenAuthenticator for TokenFile {
    async fn authenticate(&self, token: &str, _: &[String]) -> Result<Option<Authenticated>, AuthError> {
        let hash: [u8; 32] = Sha256::digest(token).into();
        Ok(self.users.get(&hash).cloned().map(Authenticated::user))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_users() {
        let file = TokenFile::parse("t1,jane,1,\"dev,ops\"\n\n t2 , joe , 2\n").expect("file");
        let jane = file.authenticate("t1", &[]).await.expect("ok").expect("jane").user;
        assert_eq!((jane.name.as_str(), jane.uid.as_str()), ("jane", "1"));
        assert_eq!(jane.groups, ["dev", "ops"]);
        assert_eq!(file.authenticate("t2", &[]).await.expect("ok").expect("joe").user.name, "joe");
        assert_eq!(file.authenticate("t3", &[]).await, Ok(None));
    }

    #[test]
    fn a_bad_line_is_named() {
        assert!(matches!(TokenFile::parse("a,b,c\nx,y"), Err(TokenFileError::Columns { line: 2 })));
        assert!(matches!(TokenFile::parse(",b,c"), Err(TokenFileError::Empty { line: 1, column: "token" })));
    }
}
