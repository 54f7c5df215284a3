//! Makes the released program smaller: see `main`.

use std::env;
use std::path::Path;

/// The tables for unwinding are of no use to a program that aborts when it panics, and take a
/// twelfth of it; relocations can be packed. Both only where the linker and the C library are known
/// to understand it (Rust's own lld; glibc 2.36, of 2022), and only in the profile `release`: what
/// OpenWrt's feed builds unwinds.
fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=without-unwinding.ld");
    let variable = |name: &str| env::var(name).unwrap_or_default();
    // Of the profile, a build script is told no more than where its output goes.
    let out = variable("OUT_DIR");
    let of_release = Path::new(&out).ancestors().nth(3).is_some_and(|it| it.ends_with("release"));
    if of_release && variable("TARGET") == "x86_64-unknown-linux-gnu" {
        let script = format!("{}/without-unwinding.ld", variable("CARGO_MANIFEST_DIR"));
        for argument in ["-z,pack-relative-relocs", "--no-eh-frame-hdr", &format!("-T,{script}")] {
            println!("cargo:rustc-link-arg-bins=-Wl,{argument}");
        }
    }
}
