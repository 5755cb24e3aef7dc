//! What is meant to run, and how that is known.

use crate::config::{Config, Diagnostic, Diagnostics, OnMismatch};
use crate::facts::{Facts, Platform};
use std::path::PathBuf;

/// What is expected, and what becomes of a container that runs something else.
#[derive(Clone, Debug)]
pub struct ReleasePlan {
    pub expect: String,
    pub actual: Release,
    pub on_mismatch: OnMismatch,
}

/// Who tells what runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Release {
    /// A file in the image.
    File(PathBuf),
    /// The platform, in a variable: the image's digest.
    Digest(String),
    /// The task metadata endpoint of ECS: the image's digest.
    Ecs,
}

impl ReleasePlan {
    /// Whether that is it: a digest may be written with or without its `name@`, and with or
    /// without `sha256:`.
    pub fn is_met_by(&self, actual: &str) -> bool {
        let digest = |text: &str| {
            let text = text.rsplit('@').next().unwrap_or(text).trim();
            text.strip_prefix("sha256:").unwrap_or(text).to_owned()
        };
        digest(&self.expect) == digest(actual)
    }
}

pub(super) fn plan(config: &Config, facts: &Facts, diagnostics: &mut Diagnostics) -> Option<ReleasePlan> {
    let section = &config.release;
    // A deployment that says nothing means any.
    let Some(expect) = section.expect.as_ref().filter(|expect| !expect.value.is_empty()) else {
        if let Some(file) = section.file.as_ref().filter(|_| section.expect.is_none()) {
            diagnostics.push(
                Diagnostic::error("nothing is expected of this file", &file.place, "what should be in it?")
                    .help("add expect = \"${EXPECTED_VERSION}\""),
            );
        }
        return None;
    };
    let ecs = matches!(facts.platform, Platform::Ecs | Platform::EcsFargate);
    let actual = match (&section.file, &facts.identity.image_digest) {
        (Some(file), _) => Release::File(file.value.clone()),
        (None, Some(digest)) => Release::Digest(digest.clone()),
        (None, None) if ecs && cfg!(feature = "agent") => Release::Ecs,
        // The image's own platform may tell.
        (None, None) if facts.is_elsewhere => return None,
        (None, None) => {
            let message = format!("nobody tells which image runs on {}", facts.platform.name());
            diagnostics.push(
                Diagnostic::error(message, &expect.place, "it cannot be compared with anything")
                    .help("name a file in the image that holds its version: file = \"/app/version\""),
            );
            return None;
        }
    };
    Some(ReleasePlan { expect: expect.value.clone(), actual, on_mismatch: section.on_mismatch.value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_compared_however_they_are_written() {
        let plan = |expect: &str| ReleasePlan {
            expect: expect.to_owned(),
            actual: Release::Ecs,
            on_mismatch: OnMismatch::Stop,
        };
        for expect in ["sha256:12ab", "12ab", "registry/app@sha256:12ab"] {
            assert!(plan(expect).is_met_by("sha256:12ab"), "{expect}");
            assert!(!plan(expect).is_met_by("sha256:12ac"), "{expect}");
        }
        assert!(plan("1.2.3").is_met_by("1.2.3\n"));
    }
}
