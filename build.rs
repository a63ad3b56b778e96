//! Tells the linker what the release program does without.

use std::env::var;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build.ld");
    // Panics of the release profile abort: nobody reads its tables for unwinding, 250 KB of them.
    if let (Ok("release"), Ok(here)) = (var("PROFILE").as_deref(), var("CARGO_MANIFEST_DIR")) {
        println!("cargo::rustc-link-arg-bin=pmd=-Wl,-T,{here}/build.ld");
    }
}
