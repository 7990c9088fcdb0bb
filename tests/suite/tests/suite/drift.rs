//! What stands in several places says the same in each: folders, template, events, layers.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn folders(path: &str) -> Result<BTreeSet<String>> {
    let entries = fs::read_dir(root().join(path)).with_context(|| path.to_owned())?;
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

/// Function, method and path of every HTTP route of the template.
pub(crate) fn routes() -> Result<Vec<(String, String, String)>> {
    let template = fs::read_to_string(root().join("template.yaml"))?;
    let (mut function, mut routes) = (String::new(), Vec::new());
    for line in template.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("BuildProperties: {Binary: ") {
            function = name.trim_end_matches('}').to_owned();
        } else if let Some((_, route)) = line.split_once("ApiId: !Ref HttpApi, Method: ") {
            let (method, path) =
                route.trim_end_matches('}').split_once(", Path: ").context("a route without a path")?;
            routes.push((function.clone(), method.to_owned(), path.to_owned()));
        }
    }
    Ok(routes)
}

#[test]
fn every_function_is_in_the_template_and_has_events() -> Result<()> {
    let functions = folders("functions")?;
    assert_eq!(folders("events")?, functions);
    let template = fs::read_to_string(root().join("template.yaml"))?;
    let binaries =
        template.lines().filter_map(|line| line.trim().strip_prefix("BuildProperties: {Binary: ")?.strip_suffix('}'));
    let deployed: BTreeSet<_> = binaries.map(|name| name.trim().to_owned()).collect();
    assert_eq!(deployed, functions);
    Ok(())
}

/// What each crate may use of ours: functions use everything, capabilities the domain and what the design names.
const LAYERS: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("postgres", &[]),
    ("costs", &["domain", "postgres"]),
    ("lambda", &["domain"]),
    ("orchestrator", &["domain", "postgres", "costs"]),
];

#[test]
fn crates_depend_downwards_only() -> Result<()> {
    assert_eq!(folders("shared")?, LAYERS.iter().map(|(name, _)| (*name).to_owned()).collect());
    for (name, allowed) in LAYERS {
        let manifest = fs::read_to_string(root().join("shared").join(name).join("Cargo.toml"))?;
        let used = manifest.lines().filter_map(|line| line.strip_prefix("huntaze-")?.split('.').next());
        for dependency in used {
            assert!(allowed.contains(&dependency), "shared/{name} must not use {dependency}");
        }
    }
    Ok(())
}

#[test]
fn the_domain_has_no_io() -> Result<()> {
    let manifest = fs::read_to_string(root().join("shared/domain/Cargo.toml"))?;
    for outside in ["tokio", "reqwest", "aws-sdk", "redis", "postgres", "lambda"] {
        assert!(!manifest.contains(outside), "the domain uses {outside}");
    }
    Ok(())
}
