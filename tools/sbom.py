#!/usr/bin/env python3
"""Writes a CycloneDX 1.6 document of the crates that Sendoff is built from, to standard output.

It needs `cargo` and the files next to it, and no network once the crates are fetched. The same Cargo.lock gives the same
document. A crate that only runs during the build (build scripts, procedural macros) has the scope `excluded`.

Usage: python3 tools/sbom.py [--target TRIPLE]
"""

import argparse
import json
import pathlib
import subprocess
import tomllib
import uuid

ROOT = pathlib.Path(__file__).resolve().parent.parent


def cargo(*arguments):
    done = subprocess.run(["cargo", *arguments], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"cargo {arguments[0]}: {done.stderr.strip()}")
    return done.stdout


def host():
    lines = subprocess.run(["rustc", "-vV"], capture_output=True, text=True, check=True).stdout.splitlines()
    return next(line.removeprefix("host: ") for line in lines if line.startswith("host: "))


def crates(edges, target):
    """Names and versions of the crates behind these edges. (`cargo metadata` also lists some that no feature enables.)"""
    lines = cargo("tree", "--locked", "--prefix=none", "--format={p}", f"--edges={edges}", f"--target={target}")
    words = (line.split() for line in lines.splitlines() if line)
    return {(name, version.removeprefix("v")) for name, version, *_ in words}


def component(package, checksums, linked):
    name, version = package["name"], package["version"]
    purl = f"pkg:cargo/{name}@{version}"
    found = {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
    found["scope"] = "required" if (name, version) in linked else "excluded"
    if package.get("license"):
        found["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
    if checksum := checksums.get((name, version)):
        found["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    if package.get("repository"):
        found["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", help="the platform (default: this machine's)")
    target = parser.parse_args().target or host()
    told = json.loads(cargo("metadata", "--format-version=1", "--locked", "--filter-platform", target))
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())
    checksums = {(one["name"], one["version"]): one.get("checksum") for one in lock["package"]}
    packages = {package["id"]: package for package in told["packages"]}
    nodes = {node["id"]: node for node in told["resolve"]["nodes"]}
    root = told["resolve"]["root"]
    built = crates("normal,build", target)
    linked = crates("normal,no-proc-macro", target)

    components = {
        id: component(package, checksums, linked)
        for id, package in packages.items()
        if (package["name"], package["version"]) in built
    }
    program = components.pop(root) | {"type": "application", "description": packages[root]["description"]}
    del program["scope"]
    refs = {id: one["bom-ref"] for id, one in components.items()} | {root: program["bom-ref"]}
    dependencies = [
        {"ref": refs[id], "dependsOn": sorted({refs[one["pkg"]] for one in nodes[id]["deps"] if one["pkg"] in refs} - {refs[id]})}
        for id in sorted(refs, key=refs.get)
    ]
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": program, "properties": [{"name": "sendoff:target", "value": target}]},
        "components": sorted(components.values(), key=lambda one: one["bom-ref"]),
        "dependencies": dependencies,
    }
    # Named after its content, so that the same crates have the same serial number.
    content = json.dumps(document, sort_keys=True)
    document["serialNumber"] = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, content)}"
    print(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
