//! Tells the linker what the release program does without.

use std::env::var;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build.ld");
    // Panics of the release profile abort: nobody reads its tables for unwinding, 250 KB of them.
    if let (Ok("release"), Ok(here)) = (var("PROFILE").as_deref(), var("CARGO_MANIFEST_DIR")) {
        // A linker that is called by itself takes its options without the compiler's prefix.
        let is_bare = var("RUSTC_LINKER").is_ok_and(|linker| linker.ends_with("lld"));
        let prefix = if is_bare { "-T" } else { "-Wl,-T," };
        println!("cargo::rustc-link-arg-bin=pmd={prefix}{here}/build.ld");
    }
}
