//! `cargo xtask check`: everything that can be said of the source without running it, as one yes or no.
//!
//! Format, lints (a warning is a no), the table of layers, the sizes of files and functions, and, where `cargo deny` is
//! installed, licences and advisories. The size of functions is clippy's (`clippy.toml`); files are counted here.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, bail, ensure};

use crate::layers;

/// No file is longer, tests apart (design, "Sizes").
const LONGEST: usize = 1000;
/// Longer ones, each with its reason.
const ALLOWED: &[(&str, &str)] = &[];

/// Runs all checks, cheapest first, and says of each that failed.
pub fn run() -> Result<()> {
    let mut failed = Vec::new();
    let mut check = |what: &str, done: Result<()>| {
        match &done {
            Ok(()) => println!("ok      {what}"),
            Err(error) => println!("FAILED  {what}: {error:#}"),
        }
        if done.is_err() {
            failed.push(what.to_owned());
        }
    };
    check("layers", layers::run());
    check("sizes", sizes());
    check("format", cargo(&["fmt", "--all", "--check"]));
    check(
        "lints",
        cargo(&["clippy", "--locked", "--workspace", "--all-targets", "--quiet", "--", "-Dwarnings"]),
    );
    if Command::new("cargo").args(["deny", "--version"]).output().is_ok_and(|o| o.status.success()) {
        check("licences and advisories", cargo(&["deny", "check"]));
    } else {
        println!("skipped licences and advisories: `cargo install cargo-deny` to have them checked");
    }
    if failed.is_empty() { Ok(()) } else { bail!("failed: {}", failed.join(", ")) }
}

fn cargo(args: &[&str]) -> Result<()> {
    let status = Command::new("cargo").args(args).status().context("starting cargo")?;
    ensure!(status.success(), "cargo {}: {status}", args.join(" "));
    Ok(())
}

fn sizes() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("workspace")?;
    let mut todo = ["bench", "crates", "xtask"].map(|part| root.join(part)).to_vec();
    let mut long = Vec::new();
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(&dir).with_context(|| dir.display().to_string())?.flatten() {
            let path = entry.path();
            if path.is_dir() {
                todo.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") && !is_test(&path) {
                let lines = std::fs::read_to_string(&path)?.lines().count();
                let short = path.strip_prefix(root).unwrap_or(&path).display().to_string();
                if lines > LONGEST && !ALLOWED.iter().any(|(allowed, _)| *allowed == short) {
                    long.push(format!("{short} has {lines} lines"));
                }
            }
        }
    }
    ensure!(long.is_empty(), "longer than {LONGEST} lines: {}", long.join("; "));
    Ok(())
}

fn is_test(path: &Path) -> bool {
    let named = path.file_stem().is_some_and(|s| {
        let stem = s.to_string_lossy();
        stem == "tests" || stem.ends_with("_tests")
    });
    named || path.components().any(|c| c.as_os_str() == "tests")
}
