//! Tells the program when it was built: no time before that can be right.

use std::time::{SystemTime, UNIX_EPOCH};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    // https://reproducible-builds.org/specs/source-date-epoch/
    let given = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|it| it.parse::<u64>().ok());
    #[expect(clippy::disallowed_methods, reason = "a build is not a part of the program")]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |it| it.as_secs());
    println!("cargo::rustc-env=OUTBYE_BUILD_SECONDS={}", given.unwrap_or(now));
}
