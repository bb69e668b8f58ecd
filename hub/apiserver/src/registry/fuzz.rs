//! Fuzz targets: continue tokens.

use hub_storage::{Key, Prefix, Revision};
use tests_fuzz::Target;

use super::list::{parse_token, token};

#[test]
fn continue_tokens() {
    let prefix = Prefix::namespace("core", "pods", "default");
    let key = Key::new("core", "pods", Some("default"), "a");
    let seeds = [token(&prefix, &key, Some(Revision::new(7))), token(&prefix, &key, None)];
    let plain: &[u8] = br#"{"v":"meta.k8s.io/v1","rv":7,"start":"a"}"#;
    let seeds = [seeds[0].as_bytes(), seeds[1].as_bytes(), plain];
    Target::new("continue-tokens", &seeds)
        .words(&["eyJ", "rv", "start", "../", "/"])
        .runs(5000)
        .check(|input| {
            let text = String::from_utf8_lossy(input).into_owned();
            let packed =
                base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, input);
            let mut good = false;
            for text in [text, packed] {
                if let Ok((_, Some(key))) = parse_token(&prefix, &text) {
                    assert!(prefix.contains(&key), "{key} is of another list");
                    good = true;
                }
            }
            good
        });
}
