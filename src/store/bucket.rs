//! An object store: S3 and what speaks its language, Google's, Azure's; or a place that takes
//! files by PUT, and no parts.

use super::client::Connector;
use super::profile::Profile;
use super::region::{machine, region};
use super::trouble;
use super::upload::{PART, Upload};
use super::web::Web;
use crate::evidence::{Digest, Hasher, NotedUpload};
use crate::units::{BucketOptions, Cloud, WebFolder};
use object_store::CredentialProvider;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{MicrosoftAzure, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorage, GoogleCloudStorageBuilder};
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, BackoffConfig, ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions,
    RetryConfig, TagSet,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::sync::RwLock;
use tracing::info;

/// A request is repeated for so long, if nobody gives it up before.
const RETRY_LIMIT: Duration = Duration::from_mins(2);
/// What is given up must not stay: S3 bills the parts of an upload for ever.
const ABORT_LIMIT: Duration = Duration::from_secs(3);

/// What every object of an event says of itself.
pub type Labels = Vec<(&'static str, String)>;

pub(super) trait Remote: ObjectStore + MultipartStore {}

impl<T: ObjectStore + MultipartStore> Remote for T {}

/// An open bucket. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Bucket(Arc<Inner>);

#[derive(Debug)]
enum Inner {
    Cloud(InCloud),
    Web(Web, WebFolder),
}

#[derive(Debug)]
struct InCloud {
    options: BucketOptions,
    connector: Connector,
    /// Made when it is first needed, and again where its credentials are no longer valid.
    remote: RwLock<Option<Arc<dyn Remote>>>,
}

impl Bucket {
    /// # Errors
    /// What is wrong with the file of roots.
    pub fn new(options: BucketOptions) -> Result<Self, String> {
        let connector = Connector::new(options.ca_file.as_deref())?;
        Ok(Self(Arc::new(Inner::Cloud(InCloud { options, connector, remote: RwLock::new(None) }))))
    }

    /// # Errors
    /// As [`Bucket::new`].
    pub fn of_web(folder: WebFolder, ca_file: Option<&std::path::Path>) -> Result<Self, String> {
        let web = Web::new(folder.clone(), ca_file)?;
        Ok(Self(Arc::new(Inner::Web(web, folder))))
    }

    fn cloud(&self) -> Result<&InCloud, String> {
        match &*self.0 {
            Inner::Cloud(cloud) => Ok(cloud),
            Inner::Web(..) => Err("it takes whole files only".to_owned()),
        }
    }

    /// Takes a file in parts, as it comes.
    pub fn takes_parts(&self) -> bool {
        matches!(&*self.0, Inner::Cloud(_))
    }

    /// Whether its parts must be of one size, but for the last.
    pub(super) fn has_equal_parts(&self) -> bool {
        self.cloud().is_ok_and(|cloud| cloud.options.equal_parts)
    }

    /// Where `key` is.
    pub fn url(&self, key: &str) -> String {
        match &*self.0 {
            Inner::Cloud(cloud) => cloud.options.url.of(key),
            Inner::Web(_, folder) => folder.of(key),
        }
    }

    /// The same for a browser; `None` where nobody knows of a page that shows it.
    pub fn console(&self, key: &str) -> Option<String> {
        self.cloud().ok()?.options.console(key)
    }

    fn path(&self, key: &str) -> Result<Path, String> {
        Ok(Path::from(format!("{}/{key}", self.cloud()?.options.url.prefix)))
    }

    /// The open store; opens it if need be.
    ///
    /// # Errors
    /// What it needs and has not.
    pub(super) async fn remote(&self) -> Result<Arc<dyn Remote>, String> {
        let cloud = self.cloud()?;
        if let Some(remote) = cloud.remote.read().await.as_ref() {
            return Ok(Arc::clone(remote));
        }
        let mut slot = cloud.remote.write().await;
        if let Some(remote) = slot.as_ref() {
            return Ok(Arc::clone(remote));
        }
        let remote = open(&cloud.options, &cloud.connector).await?;
        *slot = Some(Arc::clone(&remote));
        Ok(remote)
    }

    /// In words; and forgets credentials that are not valid any longer.
    pub(super) async fn refused(&self, error: &object_store::Error) -> String {
        let Ok(cloud) = self.cloud() else { return error.to_string() };
        if trouble::is_expired(error) {
            *cloud.remote.write().await = None;
        }
        trouble::words(error, &cloud.options)
    }

    /// Tries `action` once more with new credentials where the old ones are not valid.
    pub(super) async fn with<T, F>(&self, action: impl Fn(Arc<dyn Remote>) -> F) -> Result<T, String>
    where
        F: Future<Output = object_store::Result<T>>,
    {
        let cloud = self.cloud()?;
        for _ in 0..2 {
            match action(self.remote().await?).await {
                Ok(done) => return Ok(done),
                Err(error) if trouble::is_expired(&error) => {
                    *cloud.remote.write().await = None;
                }
                Err(error) => return Err(self.refused(&error).await),
            }
        }
        Err("ExpiredToken: new credentials are no longer valid either".to_owned())
    }

    /// Opens the store and fetches credentials: what does not work is told early, and nothing
    /// is to be fetched when there is no time. Asks the bucket itself nothing: that would need
    /// permissions that sending does not.
    ///
    /// # Errors
    /// Why there are none.
    pub async fn warm(&self) -> Result<(), String> {
        if self.takes_parts() { self.remote().await.map(drop) } else { Ok(()) }
    }

    /// Puts bytes; they are there whole or not at all.
    ///
    /// # Errors
    /// What the store said, in words.
    pub async fn put_bytes(&self, key: &str, bytes: Vec<u8>, labels: &Labels) -> Result<(), String> {
        if let Inner::Web(web, _) = &*self.0 {
            return web.put_bytes(key, content_type(key), bytes).await;
        }
        let path = self.path(key)?;
        let payload = object_store::PutPayload::from(bytes);
        let (tags, attributes) = self.labelled(key, labels)?;
        let put = |remote: Arc<dyn Remote>| {
            let (path, payload) = (path.clone(), payload.clone());
            let options =
                PutOptions { tags: tags.clone(), attributes: attributes.clone(), ..PutOptions::default() };
            async move { remote.put_opts(&path, payload, options).await.map(drop) }
        };
        self.with(put).await
    }

    /// Puts a file, in parts if it is large. Its digest.
    ///
    /// `note`: where its upload is noted as long as somebody may have to give it up.
    ///
    /// # Errors
    /// Why it cannot be read, or what the store said.
    pub async fn put_file(
        &self,
        key: &str,
        file: &std::path::Path,
        labels: &Labels,
        note: &std::path::Path,
    ) -> Result<Digest, String> {
        if let Inner::Web(web, _) = &*self.0 {
            return web.put_file(key, content_type(key), file).await;
        }
        let unreadable = |error: std::io::Error| format!("cannot read {}: {error}", file.display());
        let mut source = tokio::fs::File::open(file).await.map_err(unreadable)?;
        let mut hasher = Hasher::default();
        let first = next_part(&mut source, &mut hasher).await.map_err(unreadable)?;
        if first.len() < PART {
            self.put_bytes(key, first, labels).await?;
            return Ok(hasher.finish());
        }
        let size = source.metadata().await.map_err(unreadable)?.len();
        let noted = self.noted(key, note, size).await?;
        let goes_on = noted.is_some();
        let mut upload = match noted {
            Some(upload) => upload,
            None => {
                let mut upload = self.begin(key, labels).await?;
                upload.note_to(note.to_owned(), key, Some(size));
                upload
            }
        };
        let mut sent = if upload.has(0) { Ok(()) } else { upload.part(0, first).await };
        for index in 1.. {
            if sent.is_err() {
                break;
            }
            sent = match next_part(&mut source, &mut hasher).await {
                Ok(piece) if piece.is_empty() => break,
                Ok(_) if upload.has(index) => Ok(()),
                Ok(piece) => upload.part(index, piece).await,
                Err(error) => Err(unreadable(error)),
            };
        }
        let ended = match sent {
            Ok(()) => upload.complete().await,
            Err(reason) => Err(upload.abort(reason).await),
        };
        if goes_on && ended.is_err() {
            // The store may not know it any longer.
            drop(std::fs::remove_file(note));
        }
        ended.map(|()| hasher.finish())
    }

    /// The upload of that very file that a life which ended has left, cut as this one cuts files.
    async fn noted(&self, key: &str, note: &std::path::Path, size: u64) -> Result<Option<Upload>, String> {
        let Ok(noted) = NotedUpload::read(note) else { return Ok(None) };
        if noted.key != key || noted.of != Some((size, PART)) || noted.parts.is_empty() {
            // Else its parts would stay, unseen and paid for.
            self.abort(&noted.key, &noted.id).await?;
            info!(key = noted.key, "an upload that was cut short is given up");
            return Ok(None);
        }
        info!(key, parts = noted.parts.len(), "going on with an upload that was cut short");
        Ok(Some(Upload::noted(self.clone(), self.path(key)?, noted)))
    }

    /// Begins an object that comes in parts.
    ///
    /// # Errors
    /// What the store said.
    pub async fn begin(&self, key: &str, labels: &Labels) -> Result<Upload, String> {
        let path = self.path(key)?;
        let (tags, attributes) = self.labelled(key, labels)?;
        let cloud = self.cloud()?.options.url.cloud;
        let create = |remote: Arc<dyn Remote>| {
            let path = path.clone();
            let (tags, attributes) = (tags.clone(), attributes.clone());
            // A blob of blocks gets them with the list of its blocks, which the client does not offer.
            let options = match cloud {
                Cloud::Azure => PutMultipartOptions::default(),
                Cloud::S3 | Cloud::Google => {
                    PutMultipartOptions { tags, attributes, ..PutMultipartOptions::default() }
                }
            };
            async move { remote.create_multipart_opts(&path, options).await }
        };
        let id = self.with(create).await?;
        Ok(Upload::new(self.clone(), path, id))
    }

    /// Gives up what another life began.
    ///
    /// # Errors
    /// What the store said, or that it said nothing in time.
    pub async fn abort(&self, key: &str, id: &str) -> Result<(), String> {
        self.abort_path(&self.path(key)?, &id.to_owned()).await
    }

    pub(super) async fn abort_path(&self, path: &Path, id: &String) -> Result<(), String> {
        let abort = self.with(|remote| async move { remote.abort_multipart(path, id).await });
        match tokio::time::timeout(ABORT_LIMIT, abort).await {
            Ok(aborted) => aborted,
            Err(_) => Err("no answer".to_owned()),
        }
    }

    /// Gives an object another name; what it leaves under the old one, if it may not be removed.
    ///
    /// # Errors
    /// What the store said: it has its old name alone.
    pub async fn rename(&self, from: &str, to: &str) -> Result<Option<String>, String> {
        let (from_path, to_path) = (self.path(from)?, self.path(to)?);
        let (from_path, to_path) = (&from_path, &to_path);
        self.with(|remote| async move { remote.copy(from_path, to_path).await })
            .await
            .map_err(|reason| format!("{reason}; to copy it takes s3:GetObject, where the store is S3"))?;
        let deleted = self.with(|remote| async move { remote.delete(from_path).await }).await;
        Ok(deleted
            .err()
            .map(|reason| format!("it is there as {from} too, which cannot be removed: {reason}")))
    }

    fn labelled(&self, key: &str, labels: &Labels) -> Result<(TagSet, Attributes), String> {
        let with_tags = self.cloud()?.options.tags;
        let mut tags = TagSet::default();
        let mut attributes = Attributes::new();
        attributes.insert(Attribute::ContentType, content_type(key).into());
        for (name, value) in labels {
            // A header's value; what is no ASCII would be refused.
            let value: String = value.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').collect();
            if with_tags {
                tags.push(name, &value);
            }
            attributes.insert(Attribute::Metadata((*name).into()), value.into());
        }
        Ok((tags, attributes))
    }
}

/// As much as a part takes; less at the end.
async fn next_part(source: &mut tokio::fs::File, hasher: &mut Hasher) -> std::io::Result<Vec<u8>> {
    let mut piece = Vec::with_capacity(PART);
    source.take(PART as u64).read_to_end(&mut piece).await?;
    hasher.update(&piece);
    Ok(piece)
}

fn content_type(key: &str) -> &'static str {
    match key.rsplit('.').next() {
        Some("txt" | "log") => "text/plain; charset=utf-8",
        Some("json") => "application/json",
        Some("zst") => "application/zstd",
        Some("gz") => "application/gzip",
        _ => "application/octet-stream",
    }
}

async fn open(options: &BucketOptions, connector: &Connector) -> Result<Arc<dyn Remote>, String> {
    let retry = RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(200),
            // A dead store is known so soon after it is dead.
            max_backoff: Duration::from_secs(1),
            base: 2.0,
        },
        max_retries: 20,
        retry_timeout: RETRY_LIMIT,
    };
    let bucket = &options.url.bucket;
    let opened: object_store::Result<Arc<dyn Remote>> = match options.url.cloud {
        Cloud::S3 => {
            let profile = Profile::read();
            let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket).with_retry(retry);
            if let (Some(key), Some(secret)) =
                (profile.get("aws_access_key_id"), profile.get("aws_secret_access_key"))
            {
                info!("credentials are those of the profile `{}`", profile.name);
                builder = builder.with_access_key_id(key).with_secret_access_key(secret);
                if let Some(token) = profile.get("aws_session_token") {
                    builder = builder.with_token(token);
                }
            }
            let (region, source) = match &options.region {
                Some(region) => (region.clone(), "configuration"),
                None => region(connector.client(), profile.get("region")).await,
            };
            info!(bucket, region, source, "store opened");
            builder = builder.with_region(region).with_http_connector(connector.clone());
            builder = builder.with_metadata_endpoint(machine());
            builder = builder.with_virtual_hosted_style_request(!options.path_style);
            if let Some(endpoint) = &options.endpoint {
                builder = builder.with_endpoint(endpoint_for(endpoint, bucket, options.path_style));
            }
            if let Some((how, key)) = &options.encryption {
                // Some of its keys have a name in text only.
                let named = |name: &str| name.parse::<AmazonS3ConfigKey>().map_err(|error| error.to_string());
                builder = builder.with_config(named("aws_server_side_encryption")?, *how);
                if let Some(key) = key {
                    builder = builder.with_config(named("aws_sse_kms_key_id")?, key);
                }
            }
            ready(builder.build(), AmazonS3::credentials).await
        }
        Cloud::Google => {
            let mut builder = GoogleCloudStorageBuilder::from_env()
                .with_bucket_name(bucket)
                .with_retry(retry)
                .with_http_connector(connector.clone());
            if let Some(endpoint) = &options.endpoint {
                builder = builder.with_base_url(endpoint);
            }
            ready(builder.build(), GoogleCloudStorage::credentials).await
        }
        Cloud::Azure => {
            let mut builder = MicrosoftAzureBuilder::from_env()
                .with_container_name(bucket)
                .with_retry(retry)
                .with_http_connector(connector.clone());
            if let Some(endpoint) = &options.endpoint {
                builder = builder.with_endpoint(endpoint.clone());
            }
            ready(builder.build(), MicrosoftAzure::credentials).await
        }
    };
    opened.map_err(|error| trouble::words(&error, options))
}

/// With credentials: what is wrong with them is known before they are needed.
async fn ready<S: Remote, C: CredentialProvider + ?Sized>(
    built: object_store::Result<S>,
    credentials: impl FnOnce(&S) -> &Arc<C>,
) -> object_store::Result<Arc<dyn Remote>> {
    let store = built?;
    credentials(&store).get_credential().await?;
    Ok(Arc::new(store))
}

/// Where the bucket is part of the host's name, it is so at an endpoint of one's own too.
fn endpoint_for(endpoint: &str, bucket: &str, path_style: bool) -> String {
    match endpoint.split_once("://") {
        Some((scheme, host)) if !path_style => format!("{scheme}://{bucket}.{host}"),
        _ => endpoint.to_owned(),
    }
}
