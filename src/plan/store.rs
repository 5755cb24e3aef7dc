//! Where evidence goes, and where it is made.

use super::file_name;
use crate::config::{Config, Diagnostic, Diagnostics, ServerEncryption, StoreUrl};
use crate::facts::{Facts, Platform};
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

/// What the platform itself uploads when the container has ended: titus-executor,
/// `filesystems/watcher.go`.
const TITUS_LOGS: &str = "/logs/bookend";
/// What the allocation's next container finds again: Nomad, "Filesystem internals".
const NOMAD_ALLOCATION: &str = "NOMAD_ALLOC_DIR";

/// Where evidence goes if nobody says so: on one platform there is a place.
pub(super) fn default_url(facts: &Facts) -> Option<StoreUrl> {
    (facts.platform == Platform::Titus).then(|| StoreUrl::Directory(PathBuf::from(TITUS_LOGS)))
}

fn default_spool(facts: &Facts) -> PathBuf {
    let variable = |name| facts.variable(name).filter(|_| facts.platform == Platform::Nomad);
    let Some(folder) = variable(NOMAD_ALLOCATION).map(PathBuf::from).filter(|folder| folder.is_absolute())
    else {
        return PathBuf::from(DEFAULT_SPOOL);
    };
    // The allocation's other tasks have users and stores of their own.
    let task = variable("NOMAD_TASK_NAME").map(|task| format!("-{}", file_name(&task.to_string_lossy())));
    folder.join(format!("bookend-spool{}", task.unwrap_or_default()))
}

pub(super) fn store(
    config: &Config,
    facts: &Facts,
    url: &StoreUrl,
    diagnostics: &mut Diagnostics,
) -> (StorePlan, PathBuf) {
    let dir = config.spool.dir.as_ref();
    if let Some(dir) = dir.filter(|dir| !dir.value.is_absolute()) {
        diagnostics.push(
            Diagnostic::error("the spool's directory is not absolute", &dir.place, "relative to what?")
                .help("dir = \"/var/spool/bookend\""),
        );
    }
    let dir = dir.map(|dir| dir.value.clone());
    let ca_file = config.store.ca_file.as_ref().map(|file| file.value.clone());
    let spool = || dir.clone().unwrap_or_else(|| default_spool(facts));
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
    let by_itself = || section.endpoint.as_ref().is_some_and(|endpoint| is_r2(&endpoint.value));
    let options = BucketOptions {
        url,
        endpoint: section.endpoint.as_ref().map(|endpoint| endpoint.value.clone()),
        region: section.region.as_ref().map(|region| region.value.clone()),
        // Few but the cloud's own have a host name a bucket.
        path_style: section.path_style.as_ref().map_or(section.endpoint.is_some(), |style| style.value),
        ca_file,
        encryption,
        equal_parts: section.equal_parts.as_ref().map_or_else(by_itself, |equal| equal.value),
        tags: section.tags.value,
    };
    (StorePlan::Bucket(Box::new(options)), spool())
}

/// Cloudflare's, which puts only parts of one size together ("Multipart upload", R2 documentation).
fn is_r2(endpoint: &str) -> bool {
    let endpoint = endpoint.to_ascii_lowercase();
    let rest = endpoint.split_once("://").map_or(endpoint.as_str(), |(_, rest)| rest);
    rest.split(['/', ':']).next().is_some_and(|host| host.ends_with(".r2.cloudflarestorage.com"))
}

#[cfg(test)]
#[cfg(feature = "agent")]
mod tests {
    use super::super::fixture::plan_on;
    use super::*;

    const RULE: &str = "rule.0.name=last\nrule.0.on=stop\nrule.0.capture=[\"threads\"]\n";

    #[test]
    fn cloudflare_wants_parts_of_one_size() {
        let equal_parts = |more: &str| {
            let text = format!("{RULE}store.url=s3://evidence/x\n{more}");
            match plan_on(Platform::Docker, &[], &text).evidence.expect("a rule").store {
                StorePlan::Bucket(options) => options.equal_parts,
                other => panic!("no bucket: {other:?}"),
            }
        };
        assert!(!equal_parts(""));
        assert!(!equal_parts("store.endpoint=https://s3.example.com"));
        assert!(equal_parts("store.endpoint=https://0a1b.eu.r2.cloudflarestorage.com"));
        assert!(equal_parts("store.endpoint=https://0a1b.R2.cloudflarestorage.com/"));
        assert!(equal_parts("store.endpoint=https://s3.example.com\nstore.equal_parts=true"));
        assert!(!equal_parts(
            "store.endpoint=https://0a1b.r2.cloudflarestorage.com\nstore.equal_parts=false"
        ));
    }

    #[test]
    fn what_a_platform_offers_is_the_default() {
        let titus = plan_on(Platform::Titus, &[], RULE).evidence.expect("a rule");
        assert!(matches!(titus.store, StorePlan::Directory(path) if path.as_os_str() == TITUS_LOGS));
        assert!(plan_on(Platform::Titus, &[], "stop.grace=9s").evidence.is_none());
        let bucket = format!("{RULE}store.url=s3://evidence/x\n");
        let spool = |platform, environment: &[(&str, &str)], more: &str| {
            plan_on(platform, environment, &format!("{bucket}{more}")).evidence.expect("a rule").spool
        };
        let nomad: &[(&str, &str)] = &[("NOMAD_ALLOC_DIR", "/alloc")];
        assert_eq!(spool(Platform::Nomad, nomad, ""), PathBuf::from("/alloc/bookend-spool"));
        let task: &[(&str, &str)] = &[("NOMAD_ALLOC_DIR", "/alloc"), ("NOMAD_TASK_NAME", "web 1")];
        assert_eq!(spool(Platform::Nomad, task, ""), PathBuf::from("/alloc/bookend-spool-web_1"));
        assert_eq!(spool(Platform::Nomad, &[], ""), PathBuf::from(DEFAULT_SPOOL));
        assert_eq!(spool(Platform::Docker, nomad, ""), PathBuf::from(DEFAULT_SPOOL));
        assert_eq!(spool(Platform::Nomad, nomad, "spool.dir=/spool\n"), PathBuf::from("/spool"));
    }
}
