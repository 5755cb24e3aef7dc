//! `[[notify]]`: who is told of evidence.

use super::diagnostics::Place;
use super::document::Value;
use super::reader::{Context, FromNode, Reader, suggestion};
use super::values::Setting;
use crate::units::{MessageForm, Template};

/// Where a message is posted. Whoever knows it may post: it is shown without its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook(pub String);

impl Webhook {
    /// # Errors
    /// Why it is none.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.split_once("://") {
            Some(("http" | "https", rest)) if !rest.is_empty() && !rest.starts_with('/') => {}
            _ => return Err("write https://host/path".to_owned()),
        }
        if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err("a URL has no spaces".to_owned());
        }
        Ok(Self(text.to_owned()))
    }

    /// Scheme and host.
    pub fn shown(&self) -> String {
        let (scheme, rest) = self.0.split_once("://").unwrap_or(("", &self.0));
        let host = rest.split(['/', '?']).next().unwrap_or_default();
        // Credentials may stand before it.
        let host = host.rsplit('@').next().unwrap_or_default();
        format!("{scheme}://{host}/...")
    }
}

impl FromNode for Webhook {
    const EXPECTED: &'static str = "a URL such as \"https://hooks.example.com/services/T0/B0\"";
    fn from_value(value: &Value) -> Result<Self, Option<String>> {
        Self::parse(&String::from_value(value)?).map_err(Some)
    }
    fn show(&self) -> String {
        format!("\"{}\"", self.shown())
    }
}

impl FromNode for MessageForm {
    const EXPECTED: &'static str =
        "\"json\", \"slack\", or JSON of your own with {{service}}, {{trigger}}, {{url}} and others in it";
    fn from_value(value: &Value) -> Result<Self, Option<String>> {
        let text = String::from_value(value)?;
        match text.as_str() {
            "json" => Ok(Self::Json),
            "slack" => Ok(Self::Slack),
            other if !other.contains('{') => {
                let known = suggestion(other, &["json", "slack"]);
                Err(Some(known.map_or_else(
                    || format!("`{other}` is none of them"),
                    |known| format!("did you mean \"{known}\"?"),
                )))
            }
            own => Template::parse(own).map(Self::Own).map_err(Some),
        }
    }
    fn show(&self) -> String {
        match self {
            Self::Json => "\"json\"".to_owned(),
            Self::Slack => "\"slack\"".to_owned(),
            Self::Own(template) => format!("{:?}", template.as_str()),
        }
    }
}

/// One `[[notify]]`.
#[derive(Clone, Debug)]
pub struct Notify {
    pub place: Place,
    pub url: Option<Setting<Webhook>>,
    /// The variable that holds the URL.
    pub url_env: Option<Setting<String>>,
    /// Triggers and names of rules; every event where there are none.
    pub on: Setting<Vec<String>>,
    pub template: Setting<MessageForm>,
}

impl Notify {
    pub(super) fn read(mut reader: Reader<'_>, context: &mut Context) -> Self {
        let section = Self {
            place: reader.place().clone(),
            url: reader.optional("url", context),
            url_env: reader.optional("url_env", context),
            on: reader.or("on", Vec::new(), context),
            template: reader.or("template", MessageForm::Json, context),
        };
        reader.finish(context);
        section
    }
}
