//! `https://host/folder?token`: a place that takes files by PUT.

/// A URL in two halves, between which a file's path comes.
#[derive(Clone, PartialEq, Eq)]
pub struct WebFolder {
    /// Without a slash at its end.
    base: String,
    /// With its question mark; may be empty, may be a secret.
    query: String,
}

impl WebFolder {
    /// `None` for another scheme.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Option<Result<Self, String>> {
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"))?;
        if rest.is_empty() || rest.starts_with(['/', '?']) {
            return Some(Err("the host is missing: https://host/folder".to_owned()));
        }
        if text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#') {
            return Some(Err("a folder's URL has neither spaces nor a fragment".to_owned()));
        }
        let (base, query) = match text.split_once('?') {
            Some((base, query)) => (base, format!("?{query}")),
            None => (text, String::new()),
        };
        // Amazon's "Signature Version 4 query parameters" and Google's: the path is signed too.
        if ["X-Amz-Signature=", "X-Goog-Signature="].iter().any(|name| query.contains(name)) {
            return Some(Err(
                "this URL is signed for one object, and an event has several: use s3:// or gs://".to_owned(),
            ));
        }
        Some(Ok(Self { base: base.trim_end_matches('/').to_owned(), query }))
    }

    /// Where `key` is, for people.
    pub fn of(&self, key: &str) -> String {
        format!("{}/{key}", self.base)
    }

    /// Where `key` is put.
    pub fn request(&self, key: &str) -> String {
        format!("{}/{key}{}", self.base, self.query)
    }
}

impl std::fmt::Display for WebFolder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let token = if self.query.is_empty() { "" } else { "?..." };
        write!(formatter, "{}{token}", self.base)
    }
}

impl std::fmt::Debug for WebFolder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_comes_before_the_query() {
        let folder = WebFolder::parse("https://x/a/?sig=1").expect("ours").expect("sound");
        assert_eq!(folder.request("b/c"), "https://x/a/b/c?sig=1");
        assert_eq!(
            (folder.of("b"), folder.to_string()),
            ("https://x/a/b".to_owned(), "https://x/a?...".to_owned())
        );
        assert!(WebFolder::parse("https://x/o?X-Amz-Signature=1").is_some_and(|found| found.is_err()));
        assert!(WebFolder::parse("https:///x").is_some_and(|found| found.is_err()));
        assert_eq!(WebFolder::parse("s3://x"), None);
    }
}
