//! Where evidence goes, and where it is made.

use crate::config::{Config, Diagnostic, Diagnostics, ServerEncryption, StoreUrl};
use crate::units::{BucketOptions, WebFolder};
use std::path::PathBuf;

/// Where evidence goes.
#[derive(Clone, Debug)]
pub enum StorePlan {
    Directory(PathBuf),
    Bucket(Box<BucketOptions>),
    Web { folder: WebFolder, ca_file: Option<PathBuf> },
}

/// Where nobody says so. On Fargate and in most images it is on the container's disk.
const DEFAULT_SPOOL: &str = "/tmp/bookend-spool";

pub(super) fn store(config: &Config, url: &StoreUrl, diagnostics: &mut Diagnostics) -> (StorePlan, PathBuf) {
    let dir = config.spool.dir.as_ref();
    if let Some(dir) = dir.filter(|dir| !dir.value.is_absolute()) {
        diagnostics.push(
            Diagnostic::error("the spool's directory is not absolute", &dir.place, "relative to what?")
                .help("dir = \"/var/spool/bookend\""),
        );
    }
    let dir = dir.map(|dir| dir.value.clone());
    let ca_file = config.store.ca_file.as_ref().map(|file| file.value.clone());
    let spool = || dir.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_SPOOL));
    let url = match url {
        // In the store itself, so that a heap dump is moved by a rename and never copied.
        StoreUrl::Directory(path) => {
            let spool = dir.clone().unwrap_or_else(|| path.join(".spool"));
            return (StorePlan::Directory(path.clone()), spool);
        }
        StoreUrl::Web(folder) => {
            return (StorePlan::Web { folder: folder.clone(), ca_file }, spool());
        }
        StoreUrl::Bucket(url) => url.clone(),
    };
    let section = &config.store;
    if let Some(key) = section.kms_key.as_ref().filter(|_| {
        let by_kms = [ServerEncryption::Kms, ServerEncryption::KmsTwice];
        !section.encryption.as_ref().is_some_and(|how| by_kms.contains(&how.value))
    }) {
        diagnostics.push(
            Diagnostic::error("a KMS key and no encryption by KMS", &key.place, "nothing uses this key")
                .help("add encryption = \"aws:kms\" to [store]"),
        );
    }
    let kms_key = || section.kms_key.as_ref().map(|key| key.value.clone());
    let encryption = section.encryption.as_ref().map(|how| (how.value.word(), kms_key()));
    let options = BucketOptions {
        url,
        endpoint: section.endpoint.as_ref().map(|endpoint| endpoint.value.clone()),
        region: section.region.as_ref().map(|region| region.value.clone()),
        // Few but the cloud's own have a host name a bucket.
        path_style: section.path_style.as_ref().map_or(section.endpoint.is_some(), |style| style.value),
        ca_file,
        encryption,
        tags: section.tags.value,
    };
    (StorePlan::Bucket(Box::new(options)), spool())
}
