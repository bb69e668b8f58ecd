//! Discovery and OpenAPI: documents made once from the rows, kept encoded.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, ETAG, IF_NONE_MATCH, VARY};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use hub_api::discovery::{self, AggregatedVersion, Scope};
use hub_api::{Catalog, Resource, Status, openapi};
use serde_json::Value;

use crate::aggregation::Others;
use crate::request::accept::{Form, accepts_gzip};
use crate::response::{self, Answer, pack, ready};

const OPENAPI_V2: HeaderValue =
    HeaderValue::from_static("application/com.github.proto-openapi.spec.v2.v1.0+protobuf");

/// The documents of the newest catalog that was asked for.
pub(super) struct Documents {
    address: Arc<str>,
    newest: Mutex<Option<Arc<DocumentSet>>>,
}

/// All documents of one catalog.
pub(super) struct DocumentSet {
    catalog: Arc<Catalog>,
    others: Arc<Others>,
    /// What this server answers for, where that is less than the catalog.
    own: Option<Vec<Resource>>,
    address: Arc<str>,
    openapi_v2: OnceLock<Document>,
    openapi_v3: OnceLock<Document>,
    openapi_v3_of: BTreeMap<(String, String), OnceLock<Document>>,
}

/// One encoded document.
struct Document {
    bytes: Bytes,
    /// Empty if it is not worth it.
    packed: Bytes,
    etag: HeaderValue,
}

impl Document {
    fn new(bytes: Vec<u8>) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, &bytes);
        let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
        let etag = HeaderValue::from_str(&format!("\"{hex}\""));
        let bytes = Bytes::from(bytes);
        let packed = if bytes.len() > 4096 { pack([&bytes].into_iter()) } else { None };
        Self {
            bytes,
            packed: packed.unwrap_or_default().into(),
            etag: etag.unwrap_or(HeaderValue::from_static("\"\"")),
        }
    }

    fn answer(&self, media: HeaderValue, headers: &HeaderMap) -> Answer {
        let text = |name| headers.get(name).and_then(|it: &HeaderValue| it.to_str().ok());
        let known = text(IF_NONE_MATCH).is_some_and(|it| {
            it.split(',').any(|tag| tag.trim().as_bytes() == self.etag.as_bytes())
        });
        let mut answer = if known {
            let mut answer = Response::new(response::Body::default());
            *answer.status_mut() = StatusCode::NOT_MODIFIED;
            answer
        } else if accepts_gzip(text(ACCEPT_ENCODING)) && !self.packed.is_empty() {
            let mut answer = ready(StatusCode::OK, media, self.packed.clone());
            answer.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            answer
        } else {
            ready(StatusCode::OK, media, self.bytes.clone())
        };
        answer.headers_mut().insert(ETAG, self.etag.clone());
        answer.headers_mut().insert(VARY, HeaderValue::from_static("Accept-Encoding, Accept"));
        answer
    }
}

impl Documents {
    pub(super) fn new(address: String) -> Self {
        Self { address: address.into(), newest: Mutex::new(None) }
    }

    /// The documents of a catalog, and of what others serve.
    pub(super) fn of(&self, catalog: Arc<Catalog>, others: Arc<Others>) -> Arc<DocumentSet> {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = |it: &&Arc<DocumentSet>| {
            it.catalog.number() == catalog.number() && it.others.number == others.number
        };
        if let Some(set) = newest.as_ref().filter(is_same) {
            return set.clone();
        }
        let set = Arc::new(DocumentSet::new(catalog, others, self.address.clone()));
        *newest = Some(set.clone());
        set
    }
}

impl DocumentSet {
    fn new(catalog: Arc<Catalog>, others: Arc<Others>, address: Arc<str>) -> Self {
        let own = (!others.served.is_empty())
            .then(|| discovery::own_rows(catalog.rows(), &others.served));
        let rows = own.as_deref().unwrap_or_else(|| catalog.rows()).iter();
        let versions =
            rows.map(|it| ((it.group.to_string(), it.version.to_string()), OnceLock::new()));
        Self {
            openapi_v3_of: versions.collect(),
            catalog,
            others,
            own,
            address,
            openapi_v2: OnceLock::new(),
            openapi_v3: OnceLock::new(),
        }
    }

    fn rows(&self) -> &[Resource] {
        self.own.as_deref().unwrap_or_else(|| self.catalog.rows())
    }

    /// `/api` and `/apis`.
    pub(super) fn groups(&self, scope: Scope, form: Form, headers: &HeaderMap) -> Answer {
        let (value, media) = match (form, scope) {
            (Form::Aggregated { beta }, scope) => {
                let version = if beta { AggregatedVersion::V2Beta1 } else { AggregatedVersion::V2 };
                let media = if beta {
                    "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"
                } else {
                    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
                };
                let mut all = discovery::aggregated(scope, version, self.rows());
                discovery::add_to_aggregated(&mut all, scope, &self.others.served);
                (all, HeaderValue::from_static(media))
            }
            (_, Scope::Core) => (discovery::api_versions(&self.address), response::JSON),
            (_, Scope::Groups) => {
                let mut all = discovery::api_group_list(self.rows());
                discovery::add_to_groups(&mut all, &self.others.served);
                (all, response::JSON)
            }
        };
        let mut answer = self.answer(&value, media, headers);
        answer.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
        answer
    }

    /// `/apis/<group>`, if it is served.
    pub(super) fn group(&self, group: &str, headers: &HeaderMap) -> Option<Answer> {
        let own = discovery::api_group(group, self.rows());
        let value = discovery::with_group(own, group, &self.others.served)?;
        Some(self.answer(&value, response::JSON, headers))
    }

    /// `/apis/<group>/<version>`, if it is served.
    pub(super) fn resources(
        &self,
        group: &str,
        version: &str,
        headers: &HeaderMap,
    ) -> Option<Answer> {
        let value = discovery::api_resource_list(group, version, self.rows())?;
        Some(self.answer(&value, response::JSON, headers))
    }

    fn answer(&self, value: &Value, media: HeaderValue, headers: &HeaderMap) -> Answer {
        let bytes = response::encode(value);
        if headers.contains_key(IF_NONE_MATCH) || bytes.len() > 16 << 10 {
            return Document::new(bytes).answer(media, headers);
        }
        ready(StatusCode::OK, media, bytes)
    }

    /// `/openapi/v2`: protobuf only, that is what clients of it read.
    pub(super) fn openapi_v2(&self, headers: &HeaderMap) -> Result<Answer, Status> {
        let accept = headers.get(http::header::ACCEPT).and_then(|it| it.to_str().ok());
        let accept = accept.unwrap_or("*/*");
        if !(accept.contains("protobuf") || accept.contains("*/*")) {
            return Err(Status::not_acceptable());
        }
        let make = || Document::new(openapi::v2_protobuf(self.rows(), &self.others.openapi_v2));
        Ok(self.openapi_v2.get_or_init(make).answer(OPENAPI_V2, headers))
    }

    /// `/openapi/v3`
    pub(super) fn openapi_v3(&self, headers: &HeaderMap) -> Answer {
        let make = || {
            let mut index = openapi::v3_index(self.rows());
            for (path, hash) in &self.others.openapi {
                let url = format!("/openapi/v3/{path}?hash={hash}");
                index["paths"][path] = serde_json::json!({ "serverRelativeURL": url });
            }
            Document::new(response::encode(&index))
        };
        self.openapi_v3.get_or_init(make).answer(response::JSON, headers)
    }

    /// One document of `/openapi/v3`, if it is served.
    pub(super) fn openapi_v3_of(
        &self,
        group: &str,
        version: &str,
        headers: &HeaderMap,
    ) -> Option<Answer> {
        let slot = self.openapi_v3_of.get(&(group.to_owned(), version.to_owned()))?;
        let make =
            || Document::new(response::encode(&openapi::v3_document(group, version, self.rows())));
        Some(slot.get_or_init(make).answer(response::JSON, headers))
    }
}
