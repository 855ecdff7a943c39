//! `tools/sbom.py`: its list of crates against the program that was built, and against Cargo.lock.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// The crates whose sources are named in the program, in the places of panics: `NAME-VERSION`.
fn compiled_in() -> BTreeSet<String> {
    let pattern = "/registry/src/[^/]+/[A-Za-z0-9_-]+-[0-9][A-Za-z0-9.+-]*";
    let found = Command::new("grep").args(["-aoE", pattern, env!("CARGO_BIN_EXE_sendoff")]).output().expect("grep");
    let lines = String::from_utf8_lossy(&found.stdout).into_owned();
    lines.lines().filter_map(|line| line.rsplit('/').next()).map(str::to_owned).collect()
}

#[test]
fn the_sbom_names_every_crate_that_is_compiled_in() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let done = Command::new("python3").arg(root.join("tools/sbom.py")).env("CARGO_NET_OFFLINE", "true").output();
    let done = done.expect("python3");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let sbom: Value = serde_json::from_slice(&done.stdout).expect("JSON");
    assert_eq!((&sbom["bomFormat"], &sbom["specVersion"]), (&"CycloneDX".into(), &"1.6".into()));
    assert_eq!(sbom["metadata"]["component"]["name"], "sendoff");

    let lock = std::fs::read_to_string(root.join("Cargo.lock")).expect("Cargo.lock");
    let (mut listed, mut linked) = (BTreeSet::new(), BTreeSet::new());
    for one in sbom["components"].as_array().expect("components") {
        let text = |name: &str| one[name].as_str().unwrap_or_else(|| panic!("no {name}: {one}")).to_owned();
        let (name, version) = (text("name"), text("version"));
        assert_eq!(text("purl"), format!("pkg:cargo/{name}@{version}"));
        let entry = format!("name = \"{name}\"\nversion = \"{version}\"\n");
        let (_, entry) = lock.split_once(&entry).unwrap_or_else(|| panic!("not in Cargo.lock: {one}"));
        let checksum = one["hashes"][0]["content"].as_str().expect("a checksum");
        assert!(entry.split("[[package]]").next().is_some_and(|entry| entry.contains(checksum)), "{one}");
        assert!(one["licenses"][0]["expression"].is_string(), "{one}");
        if text("scope") == "required" {
            linked.insert(format!("{name}-{version}"));
        }
        listed.insert(text("bom-ref"));
    }
    let found = compiled_in();
    assert!(found.len() > 80, "{} crates in the program", found.len());
    let missing: Vec<&String> = found.difference(&linked).collect();
    assert!(missing.is_empty(), "compiled in, and not in the list: {missing:?}");
    for dependency in sbom["dependencies"].as_array().expect("dependencies") {
        for name in dependency["dependsOn"].as_array().expect("a list") {
            assert!(listed.contains(name.as_str().expect("a name")), "{name} is no component");
        }
    }
}
