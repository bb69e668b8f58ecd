//! Lists: the newest state or an old one, whole or in pages.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hub_api::{Resource, Status};
use hub_storage::{Entry, Key, ListError, ListRequest, Prefix, Revision};
use serde::{Deserialize, Serialize};

use super::{ListOptions, Registry, VersionMatch, prefix};
use crate::limits::LIST_PAGE;

/// What a client that comes too late is told, word for word.
const CONTINUE_EXPIRED: &str = "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.";
const LIST_EXPIRED: &str = "The resourceVersion for the provided list is too old.";

/// One page of objects.
#[derive(Clone, Debug)]
pub struct List {
    /// The objects, ordered by namespace and name.
    pub entries: Vec<Arc<Entry>>,
    /// The state that was listed: a watch goes on from here.
    pub revision: Revision,
    /// Where the next page begins, empty on the last.
    pub continue_token: String,
    /// How many objects follow, where that is known.
    pub remaining: Option<u64>,
}

/// The content of a continue token, as Kubernetes writes it.
#[derive(Debug, Deserialize, Serialize)]
struct Token {
    v: String,
    /// -1 stands for the newest.
    rv: i64,
    start: String,
}

const TOKEN_VERSION: &str = "meta.k8s.io/v1";

impl Registry {
    /// Objects of one resource, in one namespace or in all.
    ///
    /// # Errors
    /// `BadRequest` for a bad token, `Expired` if history does not reach back so far, `Timeout`
    /// if the revision lies in the future.
    pub fn list(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        options: &ListOptions,
    ) -> Result<List, Status> {
        let fields = &options.selection.fields;
        let namespace = namespace.or_else(|| {
            fields.required_value("metadata.namespace").filter(|_| resource.namespaced)
        });
        let prefix = prefix(resource, namespace);
        let (at, after) = start(&prefix, options)?;
        if let (None, None, Some(name)) = (at, &after, fields.required_value("metadata.name"))
            && (namespace.is_some() || !resource.namespaced)
            && let Some(list) = self.list_one(resource, namespace, name, options)
        {
            return check_reached(list, options);
        }
        let mut list = self.list_page(prefix, at, after, options)?;
        if resource.custom.is_some() {
            let entries = std::mem::take(&mut list.entries).into_iter();
            list.entries = entries.map(|it| super::custom::shown(resource, it)).collect();
        }
        check_reached(list, options)
    }

    /// A list of at most one object, without a look at the others. `None` if it changes too fast.
    fn list_one(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        name: &str,
        options: &ListOptions,
    ) -> Option<List> {
        for _ in 0..4 {
            // In this order: a change after `revision` is an event that a watch still sees.
            let revision = self.storage.revision();
            let entry = self.storage.get(&super::key(resource, namespace, name));
            let entry = entry.map(|it| super::custom::shown(resource, it));
            if entry.as_ref().is_none_or(|it| it.revision <= revision) {
                let entries =
                    entry.into_iter().filter(|it| options.selection.matches(&it.value())).collect();
                return Some(List {
                    entries,
                    revision,
                    continue_token: String::new(),
                    remaining: None,
                });
            }
        }
        None
    }

    fn list_page(
        &self,
        prefix: Prefix,
        at: Option<Revision>,
        after: Option<Key>,
        options: &ListOptions,
    ) -> Result<List, Status> {
        let everything = options.selection.is_everything();
        let limit = options.limit.unwrap_or(usize::MAX);
        let page =
            if everything || options.limit.is_none() { options.limit } else { Some(LIST_PAGE) };
        let mut request = ListRequest { prefix, at, after, limit: page };
        let mut entries: Vec<Arc<Entry>> = Vec::new();
        loop {
            let part =
                self.storage.list(&request).map_err(|err| self.refusal(err, &request, options))?;
            let (mut left, n_read) = (part.remaining, part.entries.len());
            let last_read = part.entries.last().map(|it| it.key.clone());
            let mut full_at = None;
            for (index, entry) in part.entries.into_iter().enumerate() {
                if !everything && !options.selection.matches(&entry.value()) {
                    continue;
                }
                entries.push(entry);
                if entries.len() >= limit {
                    left += n_read - index - 1;
                    full_at = entries.last().map(|it| it.key.clone());
                    break;
                }
            }
            request.at = Some(part.revision);
            request.after = full_at.or(last_read).or(request.after);
            if left > 0 && entries.len() < limit {
                continue;
            }
            let more = left > 0;
            let continue_token = match &request.after {
                Some(last) if more => token(&request.prefix, last, Some(part.revision)),
                Some(_) | None => String::new(),
            };
            let remaining = (more && everything).then(|| u64::try_from(left).unwrap_or(u64::MAX));
            return Ok(List { entries, revision: part.revision, continue_token, remaining });
        }
    }

    fn refusal(&self, err: ListError, request: &ListRequest, options: &ListOptions) -> Status {
        match err {
            ListError::Compacted { .. } if options.continue_token.is_empty() => {
                Status::expired(LIST_EXPIRED)
            }
            ListError::Compacted { .. } => {
                let fresh = request.after.as_ref().map(|it| token(&request.prefix, it, None));
                Status::expired(CONTINUE_EXPIRED).with_continue(&fresh.unwrap_or_default())
            }
            ListError::Future { at, current } => {
                Status::timeout_rv_too_large(at.get(), current.get())
            }
        }
    }
}

/// The state to read, and the key to read after.
fn start(
    prefix: &Prefix,
    options: &ListOptions,
) -> Result<(Option<Revision>, Option<Key>), Status> {
    if !options.continue_token.is_empty() {
        if options.revision.is_some_and(|it| it != 0) {
            return Err(Status::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        return parse_token(prefix, &options.continue_token);
    }
    let at = match (options.version_match, options.revision.filter(|it| *it != 0)) {
        (VersionMatch::Exact, Some(revision)) => Some(Revision::new(revision)),
        // As old clients mean it: a page size and a revision name that revision.
        (VersionMatch::Unset, Some(revision)) if options.limit.is_some() => {
            Some(Revision::new(revision))
        }
        (VersionMatch::Unset | VersionMatch::Exact | VersionMatch::NotOlderThan, _) => None,
    };
    Ok((at, None))
}

fn check_reached(list: List, options: &ListOptions) -> Result<List, Status> {
    match options.revision {
        Some(wanted) if wanted > list.revision.get() && options.continue_token.is_empty() => {
            Err(Status::timeout_rv_too_large(wanted, list.revision.get()))
        }
        Some(_) | None => Ok(list),
    }
}

pub(super) fn token(prefix: &Prefix, last: &Key, at: Option<Revision>) -> String {
    let start = last.as_str().strip_prefix(prefix.as_str()).unwrap_or(last.as_str());
    let rv = at.map_or(-1, |it| i64::try_from(it.get()).unwrap_or(i64::MAX));
    let token = Token { v: TOKEN_VERSION.to_owned(), rv, start: format!("{start}\0") };
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).unwrap_or_default())
}

pub(super) fn parse_token(
    prefix: &Prefix,
    text: &str,
) -> Result<(Option<Revision>, Option<Key>), Status> {
    let invalid = |why: &str| Status::bad_request(format!("continue key is not valid: {why}"));
    let bytes =
        URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map_err(|_| invalid("not base64"))?;
    let token: Token = serde_json::from_slice(&bytes).map_err(|err| invalid(&err.to_string()))?;
    if token.v != TOKEN_VERSION {
        return Err(invalid(&format!(
            "server does not recognize this encoded version \"{}\"",
            token.v
        )));
    }
    let at = match u64::try_from(token.rv) {
        Ok(0) => {
            return Err(invalid(
                "incorrect encoded start resourceVersion (version meta.k8s.io/v1)",
            ));
        }
        Ok(revision) => Some(Revision::new(revision)),
        Err(_) => None,
    };
    let start = token.start.trim_end_matches('\0');
    let key = Key::parse(&format!("{}{start}", prefix.as_str()))
        .filter(|_| !start.is_empty())
        .ok_or_else(|| invalid("it belongs to another list"))?;
    Ok((at, Some(key)))
}
