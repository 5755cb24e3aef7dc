//! Reading what bookend stored.

use serde_json::Value;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// One bundle and its manifest.
#[derive(Debug)]
pub(crate) struct Bundle {
    pub(crate) folder: PathBuf,
    pub(crate) manifest: Value,
}

/// The only bundle below `store`; every file of it is vouched for.
pub(crate) fn only(store: &Path) -> Bundle {
    let mut found = Vec::new();
    walk(store, &mut found);
    let manifests: Vec<&PathBuf> = found.iter().filter(|path| path.ends_with("manifest.json")).collect();
    assert_eq!(manifests.len(), 1, "one bundle is expected in {found:#?}");
    let bundle = at(manifests[0].parent().expect("a folder"));
    bundle.vouch(&found);
    bundle
}

/// Every bundle below `store` that is whole.
pub(crate) fn all(store: &Path) -> Vec<Bundle> {
    let mut found = Vec::new();
    walk(store, &mut found);
    let manifests = found.iter().filter(|path| path.ends_with("manifest.json"));
    manifests.map(|path| at(path.parent().expect("a folder"))).collect()
}

/// The bundle in that folder.
fn at(folder: &Path) -> Bundle {
    let text = std::fs::read_to_string(folder.join("manifest.json")).expect("the manifest is readable");
    let manifest: Value = serde_json::from_str(&text).expect("the manifest is JSON");
    Bundle { folder: folder.to_owned(), manifest }
}

pub(crate) fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() { walk(&path, found) } else { found.push(path) }
    }
}

fn hex_digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Bundle {
    /// Nothing is there that the manifest does not name, and what it names is
    /// there, with the size and digest it says, readable by its owner only.
    fn vouch(&self, found: &[PathBuf]) {
        use std::os::unix::fs::PermissionsExt;
        let mut named = vec![self.folder.join("manifest.json")];
        for artifact in self.manifest["artifacts"].as_array().expect("a list") {
            let Some(file) = artifact["file"].as_str() else {
                assert!(artifact["reason"].is_string(), "a missing artifact has a reason: {artifact}");
                continue;
            };
            let path = self.folder.join(file);
            let bytes = std::fs::read(&path).expect("a named artifact is there");
            let digest = hex_digest(&bytes);
            assert_eq!(artifact["bytes"].as_u64(), Some(bytes.len() as u64), "{artifact}");
            assert_eq!(artifact["sha256"].as_str(), Some(digest.as_str()), "{artifact}");
            if let Some(content) = artifact.get("content").filter(|_| file.contains(".zst")) {
                let plain = zstd::decode_all(bytes.as_slice()).expect("it is whole");
                assert_eq!(content["bytes"].as_u64(), Some(plain.len() as u64), "{artifact}");
                let whole = std::slice::from_ref(content);
                let mut rest = plain.as_slice();
                for part in content["halves"].as_array().map_or(whole, Vec::as_slice) {
                    let bytes = usize::try_from(part["bytes"].as_u64().expect("a size")).expect("fits");
                    assert_eq!(
                        part["sha256"].as_str(),
                        Some(hex_digest(&rest[..bytes]).as_str()),
                        "{artifact}"
                    );
                    rest = &rest[bytes..];
                }
                assert!(rest.is_empty(), "{artifact}");
            }
            let mode = std::fs::metadata(&path).expect("there").permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{file}");
            named.push(path);
        }
        for path in found {
            assert!(named.contains(path), "{} is in no manifest", path.display());
        }
    }

    pub(crate) fn artifacts(&self) -> &[Value] {
        self.manifest["artifacts"].as_array().expect("a list")
    }

    pub(crate) fn artifact(&self, name: &str) -> &Value {
        self.artifacts().iter().find(|artifact| artifact["artifact"] == name).unwrap_or(&Value::Null)
    }

    pub(crate) fn status(&self, name: &str) -> &str {
        self.artifact(name)["status"].as_str().unwrap_or("none")
    }

    pub(crate) fn reason(&self, name: &str) -> &str {
        self.artifact(name)["reason"].as_str().unwrap_or("")
    }

    pub(crate) fn file(&self, name: &str) -> &str {
        self.artifact(name)["file"].as_str().unwrap_or("")
    }

    pub(crate) fn read(&self, name: &str) -> String {
        String::from_utf8_lossy(&std::fs::read(self.folder.join(name)).expect("the file is there"))
            .into_owned()
    }
}
