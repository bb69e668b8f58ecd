//! Query strings and percent encoding.

use std::str::FromStr;

use hub_api::Status;

/// The parameters of a request, in order.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|it| !it.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key, true), decode(value, true))
        });
        Self(pairs.collect())
    }

    /// The first value.
    pub(crate) fn first(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(it, _)| it == key).map(|(_, value)| value.as_str())
    }

    /// The first value, if it is not empty.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.first(key).filter(|it| !it.is_empty())
    }

    /// All values.
    pub(crate) fn all<'a>(&'a self, key: &'static str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(it, _)| it == key).map(|(_, value)| value.as_str())
    }

    /// Whether the parameter is there and not `false` or `0`, as Kubernetes reads booleans.
    pub(crate) fn flag(&self, key: &str) -> bool {
        self.optional_flag(key).unwrap_or(false)
    }

    /// A boolean that may be absent.
    pub(crate) fn optional_flag(&self, key: &str) -> Option<bool> {
        self.first(key).map(|value| !matches!(value.to_ascii_lowercase().as_str(), "false" | "0"))
    }

    /// A number that may be absent.
    pub(crate) fn number<T: FromStr>(&self, key: &str) -> Result<Option<T>, Status> {
        let parse = |value: &str| {
            value.parse().map_err(|_| {
                Status::bad_request(format!(
                    "strconv.ParseInt: parsing \"{value}\": invalid syntax"
                ))
            })
        };
        self.text(key).map(parse).transpose()
    }
}

/// Decodes percent encoding; what is no encoding stays as it is.
pub(crate) fn decode(text: &str, plus_is_space: bool) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    loop {
        rest = match rest {
            [] => break,
            [b'%', high, low, after @ ..]
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                out.push(hex(*high) << 4 | hex(*low));
                after
            }
            [b'+', after @ ..] if plus_is_space => {
                out.push(b' ');
                after
            }
            [byte, after @ ..] => {
                out.push(*byte);
                after
            }
        };
    }
    String::from_utf8(out)
        .unwrap_or_else(|err| String::from_utf8_lossy(err.as_bytes()).into_owned())
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit - b'A' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded_and_kept_in_order() {
        let query = Query::parse("command=sh&command=-c&command=a%20%2B+b%2&stdin=true&tty=0&x");
        assert_eq!(query.all("command").collect::<Vec<_>>(), ["sh", "-c", "a + b%2"]);
        assert!(query.flag("stdin") && query.flag("x") && !query.flag("tty"));
        assert_eq!(query.text("x"), None);
        assert!(query.number::<u64>("stdin").is_err());
        assert_eq!(query.number::<u64>("limit").unwrap(), None);
    }
}
