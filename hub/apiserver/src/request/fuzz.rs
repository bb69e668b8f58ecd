//! Fuzz targets: heads of requests.

use tests_fuzz::Target;

use super::accept::{Answer, accepts_gzip, body_media, negotiate};
use super::path::Route;
use super::query::Query;

#[test]
fn heads() {
    let seeds: &[&[u8]] = &[
        b"/apis/apps/v1/namespaces/a/deployments/b/status?watch=true&labelSelector=a%3Db&limit=5&continue=x",
        b"/api/v1/namespaces/a/pods/https:b:80/proxy/x/y?z",
        b"application/json;as=Table;v=v1;g=meta.k8s.io,application/json;q=0.5,*/*",
        b"application/vnd.kubernetes.protobuf;stream=watch",
        b"gzip;q=0.0, deflate, *;q=1",
    ];
    let words = &[
        "%2f",
        "%",
        "%zz",
        "+",
        "&",
        "=",
        ";",
        ",",
        "as=",
        "v=v1",
        "g=meta.k8s.io",
        "q=",
        "0.999",
        "/",
        "//",
        "/api",
        "/namespaces/",
        "?",
    ];
    Target::new("heads", seeds).words(words).runs(5000).check(|input| {
        let text = String::from_utf8_lossy(input);
        let (path, query) = text.split_once('?').unwrap_or((&text, ""));
        let query = Query::parse(query);
        let _ = (query.number::<u64>("limit"), query.flag("watch"), query.optional_flag("pretty"));
        let _ = (body_media(Some(&text)), accepts_gzip(Some(&text)));
        negotiate(Some(&text), Answer::Objects).is_ok()
            | matches!(Route::parse(path), Route::Resource(_))
    });
}
