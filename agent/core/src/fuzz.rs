//! Fuzz targets: logs, and texts of pods.

use tests_fuzz::Target;

use crate::{env, image, log};

#[test]
fn log_lines() {
    let seeds: &[&[u8]] =
        &[b"2026-11-20T08:00:00.123456789Z stderr P some  text", b"2026-11-20T08:00:00Z stdout F "];
    Target::new("log-lines", seeds).words(&[" stdout ", " stderr ", "P ", "F "]).check(|input| {
        let Some(line) = log::parse(input) else { return false };
        assert!(input.ends_with(line.text));
        line.timestamp().is_some()
    });
}

#[test]
fn expansions() {
    let seeds: &[&[u8]] = &[b"$(A) $$(B) $(C", b"$(A)$(A)$$$(A)", b"r.io:5000/a/b:c@sha256:0"];
    let words = &["$(", ")", "$$", "$", "A", "$(A)"];
    Target::new("expansions", seeds).words(words).runs(5000).check(|input| {
        let text = String::from_utf8_lossy(input);
        let _ = (image::registry(&text), image::image_id(&text, "sha256:0"));
        let expanded = env::expand(&text, |name| (name == "A").then(|| "a".to_owned()));
        // Nothing that is put in is expanded again.
        expanded.len() <= text.len()
    });
}
