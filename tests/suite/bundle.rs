//! Reading what bookend stored.

use serde_json::Value;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// One bundle and its manifest.
#[derive(Debug)]
pub(crate) struct Bundle {
    pub(crate) folder: PathBuf,
    pub(crate) manifest: Value,
    is_in_directory: bool,
}

/// The only bundle below `store`; every file of it is vouched for.
pub(crate) fn only(store: &Path) -> Bundle {
    only_of(store, |_| true)
}

/// The same, of a server's files whose names it makes itself.
pub(crate) fn only_of(store: &Path, is_ours: impl Fn(&str) -> bool) -> Bundle {
    let mut found = Vec::new();
    walk(store, &mut found);
    found.retain(|path| path.file_name().is_some_and(|name| is_ours(&name.to_string_lossy())));
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
    let is_in_directory = !folder.components().any(|part| part.as_os_str() == "s3");
    Bundle { folder: folder.to_owned(), manifest, is_in_directory }
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

/// One digest of all of it, or one of each half.
pub(crate) fn check_halves(what: &Value, bytes: &[u8]) {
    let whole = std::slice::from_ref(what);
    let mut rest = bytes;
    for part in what["halves"].as_array().map_or(whole, Vec::as_slice) {
        let size = usize::try_from(part["bytes"].as_u64().expect("a size")).expect("fits");
        assert_eq!(part["sha256"].as_str(), Some(hex_digest(&rest[..size]).as_str()), "{what}");
        rest = &rest[size..];
    }
    assert!(rest.is_empty(), "{what}");
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
            assert_eq!(artifact["bytes"].as_u64(), Some(bytes.len() as u64), "{artifact}");
            check_halves(artifact, &bytes);
            if let Some(content) =
                artifact.get("content").filter(|_| file.contains(".zst") && !file.contains(".age"))
            {
                // What belongs in front of it may be a file of its own.
                let names = std::fs::read(self.folder.join("heap-names.hprof.zst")).unwrap_or_default();
                let plain = zstd::decode_all([names, bytes].concat().as_slice()).expect("it is whole");
                assert_eq!(content["bytes"].as_u64(), Some(plain.len() as u64), "{artifact}");
                check_halves(content, &plain);
            }
            let mode = std::fs::metadata(&path).expect("there").permissions().mode() & 0o777;
            // What lies with a server is as it makes its files.
            if self.is_in_directory {
                assert_eq!(mode, 0o600, "{file}");
            }
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
