//! `s3://bucket/prefix`: a place in an object store.

use std::fmt;
use std::path::PathBuf;

/// Whose object store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cloud {
    /// Amazon's, or one that speaks its language.
    S3,
    Google,
    /// The bucket is a container, in the account that the environment names.
    Azure,
}

impl Cloud {
    /// Of a URL.
    pub fn scheme(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Google => "gs",
            Self::Azure => "az",
        }
    }
}

/// A bucket, and where in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketUrl {
    pub cloud: Cloud,
    pub bucket: String,
    /// Without slashes at its ends; may be empty.
    pub prefix: String,
}

/// A bucket, and how it is spoken to.
#[derive(Clone, Debug)]
pub struct BucketOptions {
    pub url: BucketUrl,
    /// `https://host:port`; default: the cloud's own.
    pub endpoint: Option<String>,
    pub region: Option<String>,
    /// The bucket in the path, not in the host's name.
    pub path_style: bool,
    /// Roots, instead of the public ones.
    pub ca_file: Option<PathBuf>,
    /// What its servers encrypt with, as Amazon calls it, and the KMS key's name.
    pub encryption: Option<(&'static str, Option<String>)>,
    /// Parts are of one size, but for the last.
    pub equal_parts: bool,
    /// Tags, which ask for a permission of their own.
    pub tags: bool,
}

impl BucketOptions {
    /// A page of the cloud's own console that shows the folder `key`.
    pub fn console(&self, key: &str) -> Option<String> {
        let BucketUrl { cloud, bucket, prefix } = &self.url;
        let folder = if prefix.is_empty() { key.to_owned() } else { format!("{prefix}/{key}") };
        // Somebody else's has pages of its own.
        match (cloud, &self.endpoint) {
            (Cloud::S3, None) => {
                let region =
                    self.region.as_ref().map(|region| format!("region={region}&")).unwrap_or_default();
                Some(format!(
                    "https://s3.console.aws.amazon.com/s3/buckets/{bucket}?{region}prefix={folder}/"
                ))
            }
            (Cloud::Google, None) => {
                Some(format!("https://console.cloud.google.com/storage/browser/{bucket}/{folder}"))
            }
            _ => None,
        }
    }
}

impl BucketUrl {
    /// Parses `s3://bucket/prefix`, `gs://bucket` or `az://container`; `None` for another
    /// scheme.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Option<Result<Self, String>> {
        let (scheme, rest) = text.split_once("://")?;
        let cloud =
            [Cloud::S3, Cloud::Google, Cloud::Azure].into_iter().find(|cloud| cloud.scheme() == scheme)?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if bucket.is_empty() || !bucket.chars().all(is_name) {
            return Some(Err(format!("`{bucket}` is no bucket's name: {scheme}://bucket/prefix")));
        }
        let prefix = prefix.trim_matches('/').to_owned();
        Some(Ok(Self { cloud, bucket: bucket.to_owned(), prefix }))
    }

    /// Where `key` is.
    pub fn of(&self, key: &str) -> String {
        format!("{}/{key}", self.to_string().trim_end_matches('/'))
    }
}

impl fmt::Display for BucketUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cloud, bucket, prefix } = self;
        let scheme = cloud.scheme();
        if prefix.is_empty() {
            write!(formatter, "{scheme}://{bucket}")
        } else {
            write!(formatter, "{scheme}://{bucket}/{prefix}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_buckets() {
        let parse = |text| BucketUrl::parse(text).map(|url| url.map(|url| (url.to_string(), url.of("a/b"))));
        let parsed = |whole: &str, key: &str| Some(Ok((whole.to_owned(), key.to_owned())));
        assert_eq!(parse("s3://evidence"), parsed("s3://evidence", "s3://evidence/a/b"));
        assert_eq!(parse("gs://evidence/x/y/"), parsed("gs://evidence/x/y", "gs://evidence/x/y/a/b"));
        assert!(parse("az:///x").is_some_and(|url| url.is_err()));
        assert!(parse("s3://a b/x").is_some_and(|url| url.is_err()));
        assert_eq!(parse("ftp://x"), None);
        assert_eq!(parse("evidence"), None);
    }
}
