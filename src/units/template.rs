//! A message with blanks: `{"text": "{{service}}: {{trigger}}"}`.

/// What a message is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MessageForm {
    /// All that is known, as JSON.
    Json,
    /// What Slack's incoming webhooks take, and those that speak its language.
    Slack,
    Own(Template),
}

/// What may stand between `{{` and `}}`.
const BLANKS: [&str; 10] =
    ["service", "task", "platform", "trigger", "rules", "began", "artifacts", "url", "link", "text"];

/// JSON with blanks inside its strings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(String);

impl Template {
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let template = Self(text.to_owned());
        let mut unknown = None;
        let filled = template.fill(|name| {
            if !BLANKS.contains(&name) {
                unknown = Some(name.to_owned());
            }
            "x".to_owned()
        });
        if let Some(name) = unknown {
            return Err(format!("there is no {{{{{name}}}}}, only {}", BLANKS.join(", ")));
        }
        #[cfg(feature = "agent")]
        if let Err(error) = serde_json::from_str::<serde_json::Value>(&filled) {
            return Err(format!("with its blanks filled in it is no JSON: {error}"));
        }
        drop(filled);
        Ok(template)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `value` gives what stands for a name, as it may stand within a JSON string.
    pub fn fill(&self, mut value: impl FnMut(&str) -> String) -> String {
        let mut filled = String::new();
        let mut rest = self.0.as_str();
        while let Some((before, behind)) = rest.split_once("{{") {
            let Some((name, after)) = behind.split_once("}}") else { break };
            filled.push_str(before);
            filled.push_str(&value(name.trim()));
            rest = after;
        }
        filled.push_str(rest);
        filled
    }
}

#[cfg(all(test, feature = "agent"))]
mod tests {
    use super::*;

    #[test]
    fn blanks_are_filled_and_others_refused() {
        let template =
            Template::parse(r#"{"text": "{{service}} at {{ url }}", "n": {"x": 1}}"#).expect("sound");
        let filled = template.fill(|name| format!("<{name}>"));
        assert_eq!(filled, r#"{"text": "<service> at <url>", "n": {"x": 1}}"#);
        assert!(
            Template::parse(r#"{"text": "{{servise}}"}"#).is_err_and(|reason| reason.contains("servise"))
        );
        assert!(Template::parse(r#"{"text": {{service}}"#).is_err_and(|reason| reason.contains("no JSON")));
    }
}
