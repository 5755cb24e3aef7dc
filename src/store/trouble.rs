//! What an object store's refusal means, and what to do about it.

use crate::net::in_words;
use crate::units::{BucketOptions, Cloud};

/// In one line: the service's own code first.
pub(super) fn words(error: &object_store::Error, options: &BucketOptions) -> String {
    // The body of an answer stands in the error's text, as XML.
    let text = in_words(error);
    let Some(code) = element(&text, "Code") else {
        let line = text.lines().next().unwrap_or_default();
        let line: String = line.chars().take(300).collect();
        // The client's words for a variable that is not set.
        let hint =
            if line.contains("Account must be specified") { ": set AZURE_STORAGE_ACCOUNT_NAME" } else { "" };
        return format!("{}{hint}", line.trim());
    };
    let message = element(&text, "Message").unwrap_or_default();
    let message: String = message.lines().next().unwrap_or_default().chars().take(200).collect();
    let hint = hint(&code, &message, options).map(|hint| format!("; {hint}")).unwrap_or_default();
    format!("{code}: {}{hint}", message.trim_end_matches('.'))
}

/// The codes are those of "Error responses", Amazon S3 API reference.
fn hint(code: &str, message: &str, options: &BucketOptions) -> Option<String> {
    let url = &options.url;
    let (bucket, prefix) = (&url.bucket, &url.prefix);
    let key = if prefix.is_empty() { "*".to_owned() } else { format!("{prefix}/*") };
    match code {
        // "Blob service error codes", Azure Storage REST API.
        "AuthorizationPermissionMismatch" | "AuthorizationFailure" => Some(format!(
            "the identity needs the role Storage Blob Data Contributor on the container {bucket}, and the account's network \
             rules must let it in"
        )),
        "AuthenticationFailed" => Some("is the account key right, and this machine's clock?".to_owned()),
        "ContainerNotFound" => Some(format!("is the name `{bucket}` right, and the account?")),
        // "Error messages", XML API of Cloud Storage.
        "AuthenticationRequired" => Some(
            "the token is not taken: is the service account's key still valid, and this machine's clock right?".to_owned(),
        ),
        "AccessDenied" if url.cloud == Cloud::Google => Some(format!(
            "the service account needs storage.objects.create and storage.multipartUploads.* on {bucket}"
        )),
        "AccessDenied" if message.contains("sts:AssumeRole") => {
            Some("the role's trust policy must let this service account take it".to_owned())
        }
        "AccessDenied" | "AllAccessDisabled" => {
            let mut permissions = vec!["s3:PutObject"];
            if options.tags {
                permissions.push("s3:PutObjectTagging");
            }
            let kms = options.encryption.as_ref().is_some_and(|(how, _)| how.starts_with("aws:kms"));
            let kms = if kms { ", and kms:GenerateDataKey on the key" } else { "" };
            Some(format!("the role needs {} on arn:aws:s3:::{bucket}/{key}{kms}", permissions.join(" and ")))
        }
        "ExpiredToken" | "TokenRefreshRequired" => Some("the credentials are no longer valid".to_owned()),
        "InvalidAccessKeyId" => Some("no such access key: is it another account's or server's?".to_owned()),
        "SignatureDoesNotMatch" => Some("the secret key is not that of the access key".to_owned()),
        "RequestTimeTooSkewed" => Some("this machine's clock is wrong".to_owned()),
        "NoSuchBucket" => Some(format!("is the name `{bucket}` right, and the region?")),
        "PermanentRedirect" | "AuthorizationHeaderMalformed" => {
            Some("the bucket is in another region: region = \"...\" in [store]".to_owned())
        }
        _ => None,
    }
}

/// Whether other credentials may help.
pub(super) fn is_expired(error: &object_store::Error) -> bool {
    let text = in_words(error);
    let code = element(&text, "Code");
    matches!(code.as_deref(), Some("ExpiredToken" | "TokenRefreshRequired" | "InvalidToken"))
}

fn element(text: &str, name: &str) -> Option<String> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (content, _) = rest.split_once(&format!("</{name}>"))?;
    Some(content.trim().to_owned())
}
