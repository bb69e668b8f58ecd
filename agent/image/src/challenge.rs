//! How a registry wants to be greeted: its `WWW-Authenticate` header, and the token that it sends us for.
//!
//! <https://distribution.github.io/distribution/spec/auth/token/>

use reqwest::Url;
use serde::Deserialize;

/// What a registry asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Challenge {
    /// User name and password with every request.
    Basic,
    /// A token from there.
    Bearer { realm: String, service: Option<String> },
}

impl Challenge {
    /// Reads one header; `None` for a scheme that is not known here.
    pub(crate) fn parse(header: &str) -> Option<Self> {
        let header = header.trim();
        let (scheme, rest) = header.split_once(' ').unwrap_or((header, ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (mut realm, mut service) = (None, None);
        for (name, value) in parameters(rest) {
            match name.to_ascii_lowercase().as_str() {
                "realm" => realm = Some(value),
                "service" => service = Some(value),
                _ => {}
            }
        }
        Some(Self::Bearer { realm: realm?, service })
    }
}

/// `name=value, name="quoted \"value\""`.
fn parameters(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut chars = text.chars().peekable();
    loop {
        let name: String = std::iter::from_fn(|| chars.next_if(|c| *c != '=')).collect();
        if chars.next().is_none() {
            return found;
        }
        let mut value = String::new();
        if chars.next_if_eq(&'"').is_some() {
            while let Some(c) = chars.next() {
                match c {
                    '"' => break,
                    '\\' => value.extend(chars.next()),
                    c => value.push(c),
                }
            }
            while chars.next_if(|c| *c != ',').is_some() {}
        } else {
            value.extend(std::iter::from_fn(|| chars.next_if(|c| *c != ',')));
        }
        chars.next();
        found.push((name.trim_matches([' ', ',']).to_owned(), value.trim().to_owned()));
    }
}

/// Where to ask for a token to read a repository; `None` if the registry names no place on the web, or
/// would have what it gets over TLS shown to everybody.
pub(crate) fn token_url(
    realm: &str,
    service: Option<&str>,
    repository: &str,
    is_plain: bool,
) -> Option<Url> {
    let mut url: Url = realm.parse().ok()?;
    if !(url.scheme() == "https" || (url.scheme() == "http" && is_plain)) {
        return None;
    }
    if let Some(service) = service {
        url.query_pairs_mut().append_pair("service", service);
    }
    url.query_pairs_mut().append_pair("scope", &format!("repository:{repository}:pull"));
    Some(url)
}

/// The token in an answer.
pub(crate) fn token(answer: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Answer {
        token: Option<String>,
        access_token: Option<String>,
    }
    let answer: Answer = serde_json::from_slice(answer).ok()?;
    answer.token.or(answer.access_token).filter(|it| !it.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read_as_registries_write_them() {
        let bearer = |realm: &str, service: Option<&str>| {
            Some(Challenge::Bearer { realm: realm.to_owned(), service: service.map(str::to_owned) })
        };
        for (header, want) in [
            (
                r#"Bearer realm="https://a.io/token",service="r.io",scope="x:y""#,
                bearer("https://a.io/token", Some("r.io")),
            ),
            (
                r#"bearer realm="https://a.io/t?a=b,c" , Service=r"#,
                bearer("https://a.io/t?a=b,c", Some("r")),
            ),
            (r#"Bearer realm="a\"b""#, bearer("a\"b", None)),
            (r#"Bearer realm="never ends"#, bearer("never ends", None)),
            (r#"Basic realm="x""#, Some(Challenge::Basic)),
            ("BASIC", Some(Challenge::Basic)),
            ("Bearer", None),
            ("Bearer service=x", None),
            ("Negotiate", None),
            ("", None),
        ] {
            assert_eq!(Challenge::parse(header), want, "{header}");
        }
    }

    #[test]
    fn tokens_are_fetched_where_it_is_safe() {
        let url =
            |realm, is_plain| token_url(realm, Some("r io"), "a/b", is_plain).map(String::from);
        let query = "service=r+io&scope=repository%3Aa%2Fb%3Apull";
        assert_eq!(url("https://a.io/t", false), Some(format!("https://a.io/t?{query}")));
        assert_eq!(url("https://a.io/t?x=y", true), Some(format!("https://a.io/t?x=y&{query}")));
        assert_eq!(url("http://a.io/t", true), Some(format!("http://a.io/t?{query}")));
        assert_eq!(url("http://a.io/t", false), None);
        assert_eq!(url("file:///etc/shadow", true), None);
        assert_eq!(url("nowhere", true), None);
    }

    #[test]
    fn both_names_of_a_token_count() {
        assert_eq!(token(br#"{"token":"a","access_token":"b"}"#).as_deref(), Some("a"));
        assert_eq!(token(br#"{"access_token":"b","expires_in":3}"#).as_deref(), Some("b"));
        assert_eq!(token(br#"{"token":""}"#), None);
        assert_eq!(token(b"<html>"), None);
    }
}
