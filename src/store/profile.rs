//! A developer's own keys: Amazon's `~/.aws/credentials` and `~/.aws/config`.
//!
//! Only what stands there in plain text. Profiles that point elsewhere (`sso_*`, `role_arn`,
//! `credential_process`) are not for containers; they are named, not guessed at.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// What a profile says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Profile {
    pub(super) name: String,
    pub(super) keys: BTreeMap<String, String>,
}

impl Profile {
    /// The profile that `AWS_PROFILE` names, unless the environment has credentials of its
    /// own; empty where there are no such files.
    pub(super) fn read() -> Self {
        let name = std::env::var("AWS_PROFILE").unwrap_or_else(|_| "default".to_owned());
        let mut keys = BTreeMap::new();
        let own = ["AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE"];
        let containers = ["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"];
        if own.iter().chain(&containers).any(|name| std::env::var_os(name).is_some()) {
            return Self { name, keys };
        }
        let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
        for (variable, file) in
            [("AWS_CONFIG_FILE", "config"), ("AWS_SHARED_CREDENTIALS_FILE", "credentials")]
        {
            let path = std::env::var_os(variable).map(PathBuf::from);
            let path = path.unwrap_or_else(|| home.join(".aws").join(file));
            let bytes = std::fs::read(path).unwrap_or_default();
            keys.extend(section(&String::from_utf8_lossy(&bytes), &name));
        }
        Self { name, keys }
    }

    pub(super) fn get(&self, key: &str) -> Option<String> {
        self.keys.get(key).cloned()
    }
}

/// `[name]`, or `[profile name]` as the one of the two files has it.
fn section(text: &str, name: &str) -> BTreeMap<String, String> {
    let mut keys = BTreeMap::new();
    let mut is_ours = false;
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        if let Some(title) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            let title = title.trim();
            is_ours = title.strip_prefix("profile ").map_or(title, str::trim) == name;
        } else if let (true, Some((key, value))) = (is_ours, line.split_once('=')) {
            keys.insert(key.trim().to_owned(), value.trim().to_owned());
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_of_both_files() {
        let text =
            "[default]\naws_access_key_id = A\n# no\n[profile work]\nregion=eu-west-1\n[other]\nx = 1\n";
        let of = |name| section(text, name).into_iter().collect::<Vec<_>>();
        assert_eq!(of("default"), [("aws_access_key_id".to_owned(), "A".to_owned())]);
        assert_eq!(of("work"), [("region".to_owned(), "eu-west-1".to_owned())]);
        assert!(of("none").is_empty());
    }
}
