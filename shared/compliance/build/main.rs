//! Makes the tables of this crate: what letters a character may stand for, from Unicode's own data, and the rules of `rules/*.toml`.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a fault in the rules is a fault of the build"
)]

mod letters;
mod rules;

use std::path::Path;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=build");
    println!("cargo::rerun-if-changed=rules");
    let out = env::var_os("OUT_DIR").expect("cargo says where to");
    let write = |name: &str, text: String| fs::write(Path::new(&out).join(name), text).expect("it can be written");
    write("letters.rs", letters::table());
    write("rules.rs", rules::tables(Path::new("rules")));
}
