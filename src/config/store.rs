//! `[store]` and `[spool]`: where evidence goes, and where it waits.

use super::document::Value;
use super::jvm::Percent;
use super::reader::{Context, FromNode, Reader};
use super::values::Setting;
use crate::units::{BucketUrl, ByteSize, WebFolder};
use std::path::PathBuf;

/// Where evidence goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrl {
    /// `file:///absolute/directory`.
    Directory(PathBuf),
    Bucket(BucketUrl),
    /// `https://host/folder`.
    Web(WebFolder),
}

impl FromNode for StoreUrl {
    const EXPECTED: &'static str = "a store such as \"s3://bucket/prefix\" or \"file:///var/lib/bookend\"";
    fn from_value(value: &Value) -> Result<Self, Option<String>> {
        let text = String::from_value(value)?;
        if let Some(bucket) = BucketUrl::parse(&text) {
            return bucket.map(Self::Bucket).map_err(Some);
        }
        if let Some(folder) = WebFolder::parse(&text) {
            return folder.map(Self::Web).map_err(Some);
        }
        let Some(path) = text.strip_prefix("file://") else {
            return Err(Some(match text.split_once("://") {
                Some((scheme, _)) => {
                    format!("`{scheme}` stores do not exist in this version, only s3, gs, az, https and file")
                }
                None => "the scheme is missing: file:///directory, s3://bucket".to_owned(),
            }));
        };
        if !path.starts_with('/') || path == "/" {
            return Err(Some("the directory must be absolute: file:///directory".to_owned()));
        }
        Ok(Self::Directory(PathBuf::from(path.trim_end_matches('/'))))
    }
    fn show(&self) -> String {
        match self {
            Self::Directory(path) => format!("\"file://{}\"", path.display()),
            Self::Bucket(url) => format!("\"{url}\""),
            Self::Web(folder) => format!("\"{folder}\""),
        }
    }
}

/// What Amazon's servers encrypt with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerEncryption {
    /// SSE-S3.
    Aes256,
    /// SSE-KMS.
    Kms,
    /// DSSE-KMS.
    KmsTwice,
}

impl ServerEncryption {
    /// As Amazon and the configuration call it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Aes256 => "AES256",
            Self::Kms => "aws:kms",
            Self::KmsTwice => "aws:kms:dsse",
        }
    }
}

/// `[store]`
#[derive(Clone, Debug)]
pub struct Store {
    pub url: Option<Setting<StoreUrl>>,
    pub endpoint: Option<Setting<String>>,
    pub region: Option<Setting<String>>,
    pub path_style: Option<Setting<bool>>,
    pub ca_file: Option<Setting<PathBuf>>,
    pub encryption: Option<Setting<ServerEncryption>>,
    pub kms_key: Option<Setting<String>>,
    pub equal_parts: Option<Setting<bool>>,
    pub tags: Setting<bool>,
}

/// `[spool]`
#[derive(Clone, Debug)]
pub struct Spool {
    pub dir: Option<Setting<PathBuf>>,
    pub limit: Setting<ByteSize>,
    /// Of the disk that would be free without it.
    pub share: Setting<Percent>,
}

impl Store {
    pub(super) fn read(mut reader: Reader<'_>, context: &mut Context) -> Self {
        let section = Self {
            url: reader.optional("url", context),
            endpoint: reader.optional("endpoint", context),
            region: reader.optional("region", context),
            path_style: reader.optional("path_style", context),
            ca_file: reader.optional("ca_file", context),
            encryption: reader.optional("encryption", context),
            kms_key: reader.optional("kms_key", context),
            equal_parts: reader.optional("equal_parts", context),
            tags: reader.or("tags", false, context),
        };
        reader.finish(context);
        section
    }
}

impl Spool {
    pub(super) fn read(mut reader: Reader<'_>, context: &mut Context) -> Self {
        let section = Self {
            dir: reader.optional("dir", context),
            limit: reader.or("limit", ByteSize(2 << 30), context),
            share: reader.or("share", Percent(50), context),
        };
        reader.finish(context);
        section
    }
}
