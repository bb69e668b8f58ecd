//! Bearer tokens from a file: lines of `token,user,uid,"group1,group2"`.
//! Only digests are kept, and looked up by: neither memory nor timing tells a token.

use std::collections::BTreeMap;

use super::User;

/// The tokens that are known.
#[derive(Clone, Debug, Default)]
pub struct TokenFile {
    users: BTreeMap<[u8; 32], User>,
}

/// Why a token file was refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TokenFileError {
    /// Fewer columns than token, user and uid.
    #[error("could not find token, user name and uid in line {line}")]
    TooFewColumns { line: usize },
    /// The token is empty.
    #[error("could not use the empty token in line {line}")]
    EmptyToken { line: usize },
    /// The user's name is empty, which is the hub's own.
    #[error("could not use the empty user name in line {line}")]
    EmptyUser { line: usize },
    /// A quote is never closed.
    #[error("could not find the closing quote in line {line}")]
    OpenQuote { line: usize },
}

impl TokenFile {
    /// Reads the file's text.
    ///
    /// # Errors
    /// A line is not of the form above; nothing of the file is used then.
    pub fn parse(text: &str) -> Result<Self, TokenFileError> {
        let mut users = BTreeMap::new();
        for (index, row) in text.lines().enumerate() {
            let line = index + 1;
            if row.trim().is_empty() {
                continue;
            }
            let columns = split_csv(row).ok_or(TokenFileError::OpenQuote { line })?;
            let [token, name, uid, rest @ ..] = columns.as_slice() else {
                return Err(TokenFileError::TooFewColumns { line });
            };
            if token.is_empty() {
                return Err(TokenFileError::EmptyToken { line });
            }
            if name.is_empty() {
                return Err(TokenFileError::EmptyUser { line });
            }
            let groups = rest
                .first()
                .map(|it| it.split(',').map(str::trim).filter(|it| !it.is_empty()))
                .into_iter()
                .flatten()
                .map(str::to_owned)
                .collect();
            let user = User { name: name.clone(), uid: uid.clone(), groups, ..User::default() };
            // The first line wins, as in Kubernetes it warns of the second.
            users.entry(digest(token)).or_insert_with(|| user.authenticated());
        }
        Ok(Self { users })
    }

    /// The user of the token, if it is known.
    pub fn user(&self, token: &str) -> Option<&User> {
        self.users.get(&digest(token))
    }
}

fn digest(token: &str) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
    let mut out = [0; 32];
    out.copy_from_slice(digest.as_ref());
    out
}

/// Splits one line of CSV; `None` if a quote stays open.
fn split_csv(row: &str) -> Option<Vec<String>> {
    let mut columns = Vec::new();
    let mut column = String::new();
    let mut chars = row.trim().chars().peekable();
    let mut quoted = false;
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                column.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => columns.push(std::mem::take(&mut column).trim().to_owned()),
            c => column.push(c),
        }
    }
    columns.push(column.trim().to_owned());
    (!quoted).then_some(columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_name_users_and_groups() {
        let file =
            TokenFile::parse("t1,admin,1,\"system:masters,ops\"\n\n t2 , bob , 2\n").unwrap();
        let admin = file.user("t1").unwrap();
        assert_eq!(admin.groups, ["system:masters", "ops", "system:authenticated"]);
        assert_eq!(file.user("t2").unwrap().name, "bob");
        assert_eq!(file.user(""), None);
        assert_eq!(file.user("t3"), None);
    }

    #[test]
    fn bad_lines_are_named() {
        for (text, err) in [
            ("t1,admin", TokenFileError::TooFewColumns { line: 1 }),
            ("a,b,c\n,admin,1", TokenFileError::EmptyToken { line: 2 }),
            ("a,,c", TokenFileError::EmptyUser { line: 1 }),
            ("a,b,c,\"d", TokenFileError::OpenQuote { line: 1 }),
        ] {
            assert_eq!(TokenFile::parse(text).map(|_| ()), Err(err));
        }
    }
}
