//! Secrets out of text: by the name in front of a value, and by the shape of the
//! value itself. What is masked is replaced whole; better one word too many.

use std::sync::OnceLock;

/// What stands in place of a secret.
pub const MASKED: &str = "****";

/// Parts of names whose values are secrets.
const NAMES: [&str; 13] = [
    "pass",
    "pwd",
    "secret",
    "token",
    "credential",
    "apikey",
    "api_key",
    "api-key",
    "api.key",
    "private",
    "auth",
    "signature",
    "access_key",
];
/// Endings of names whose values are secrets, too short to be looked for inside.
const ENDINGS: [&str; 4] = ["key", "pin", "sas", "cookie"];
/// Begins of values that are secrets wherever they stand.
const SHAPES: [&str; 16] = [
    "AKIA",
    "ASIA",
    "ghp_",
    "gho_",
    "ghs_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "xoxa-",
    "sk_live_",
    "rk_live_",
    "sk-",
    "eyJ",
    "AIza",
    "npm_",
];
/// A value of such a shape is at least so long.
const SHAPE_LENGTH: usize = 16;

/// Values that are known to be secrets, wherever they stand.
static KNOWN: OnceLock<Vec<String>> = OnceLock::new();
/// A shorter value is too common to be looked for everywhere. Characters.
const KNOWN_LENGTH: usize = 6;

/// Takes in the variables that the service is given: the secrets in them are masked from
/// now on, also where nothing tells what they are. Once a process.
pub fn remember_secrets<'a>(variables: impl Iterator<Item = (&'a str, &'a str)>) {
    let secrets = variables.flat_map(|(name, value)| secrets_in(&format!("{name}={value}")));
    let _once = KNOWN.set(tidy(secrets.collect()));
}

/// All that are known, and those of a command line.
pub fn secrets_with(command_line: &[String]) -> Vec<String> {
    // One by one, as a value may hold spaces; and as a whole, for `--password value`.
    let alone = command_line.iter().flat_map(|argument| secrets_in(argument.trim_start_matches('-')));
    let known = KNOWN.get().cloned().unwrap_or_default();
    tidy(alone.chain(secrets_in(&command_line.join(" "))).chain(known).collect())
}

/// Those that are long enough, once each, the longest first: one may begin with another.
fn tidy(mut values: Vec<String>) -> Vec<String> {
    values.retain(|value| value.len() >= KNOWN_LENGTH);
    values.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    values.dedup();
    values
}

/// What [`mask`] takes out of a text of one line.
fn secrets_in(line: &str) -> Vec<String> {
    let masked = mask_line(line);
    let mut kept = masked.split(MASKED);
    let Some(mut rest) = kept.next().and_then(|first| line.strip_prefix(first)) else { return Vec::new() };
    let mut secrets = Vec::new();
    for next in kept {
        let (secret, after) = match next {
            "" => (rest, ""),
            next => rest.split_once(next).unwrap_or((rest, "")),
        };
        secrets.push(secret.to_owned());
        rest = after;
    }
    secrets
}

/// Without `values`, where each is a word of its own.
fn without(text: &str, values: &[String]) -> Option<String> {
    let mut found: Option<String> = None;
    for value in values {
        let text = found.as_deref().unwrap_or(text);
        if !text.contains(value.as_str()) {
            continue;
        }
        let mut masked = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once(value.as_str()) {
            masked.push_str(before);
            let is_part = before.chars().next_back().is_some_and(char::is_alphanumeric)
                || after.chars().next().is_some_and(char::is_alphanumeric);
            masked.push_str(if is_part { value } else { MASKED });
            rest = after;
        }
        masked.push_str(rest);
        found = Some(masked);
    }
    found
}

/// The text without its secrets.
pub fn mask(text: &str) -> String {
    let known = KNOWN.get().and_then(|values| without(text, values));
    let text = known.as_deref().unwrap_or(text);
    let mut masked = String::with_capacity(text.len());
    let mut in_private_key = false;
    for line in text.split_inclusive('\n') {
        if line.contains("-----BEGIN") && line.contains("PRIVATE KEY") {
            in_private_key = true;
            masked.push_str("**** a private key ****\n");
        }
        if !in_private_key {
            masked.push_str(&mask_line(line));
        }
        if line.contains("-----END") {
            in_private_key = false;
        }
    }
    masked
}

/// A long text that comes in pieces, and of which names and values are no concern but
/// for those that are known: a thread dump, whose words look like names all over.
#[derive(Debug, Default)]
pub struct KnownMasked {
    /// The begin of a line whose end is still to come.
    rest: Vec<u8>,
}

impl KnownMasked {
    /// The whole lines so far, without secrets that are known.
    pub fn take(&mut self, piece: Vec<u8>) -> Vec<u8> {
        let Some(values) = KNOWN.get().filter(|values| !values.is_empty()) else { return piece };
        self.rest.extend_from_slice(&piece);
        let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else { return Vec::new() };
        let later = self.rest.split_off(end + 1);
        mask_bytes(std::mem::replace(&mut self.rest, later), values)
    }

    /// What is left, at the end.
    pub fn finish(self) -> Vec<u8> {
        mask_known(self.rest)
    }
}

/// The same for a text that is there as a whole.
pub fn mask_known(bytes: Vec<u8>) -> Vec<u8> {
    mask_bytes(bytes, KNOWN.get().map_or(&[], Vec::as_slice))
}

fn mask_bytes(bytes: Vec<u8>, values: &[String]) -> Vec<u8> {
    match std::str::from_utf8(&bytes).ok().and_then(|text| without(text, values)) {
        Some(masked) => masked.into_bytes(),
        None => bytes,
    }
}

fn mask_line(line: &str) -> String {
    let (body, end) = match line.strip_suffix('\n') {
        Some(body) => (body, "\n"),
        None => (line, ""),
    };
    // `NAME=value to the end of the line`: environment and properties.
    let name_end = body.find(['=', ':']).filter(|at| {
        let name = body.get(..*at).unwrap_or_default().trim();
        !name.is_empty() && name.split_whitespace().count() == 1 && !name.starts_with('-') && is_secret(name)
    });
    if let Some(at) = name_end {
        let (name, value) = body.split_at(at + 1);
        return if value.trim().is_empty() { line.to_owned() } else { format!("{name}{MASKED}{end}") };
    }
    let words: Vec<String> = split(body).into_iter().map(mask_word).collect();
    hide_after_flags(words).concat() + end
}

/// Words and what stands between them.
fn split(body: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = body;
    while let Some(first) = rest.chars().next() {
        let is_gap =
            |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ',' | ';' | '&' | '?' | '(' | ')');
        let in_gap = is_gap(first);
        let end = rest.find(|c| is_gap(c) != in_gap).unwrap_or(rest.len());
        let (part, tail) = rest.split_at(end);
        parts.push(part);
        rest = tail;
    }
    parts
}

fn mask_word(word: &str) -> String {
    // `-Dname=value`, `--name=value`, `name:value`, also inside another value.
    let borders = word.char_indices().filter(|(_, c)| matches!(c, '=' | ':')).map(|(at, _)| at);
    for at in borders.filter(|at| !word.get(*at..).unwrap_or_default().starts_with("://")) {
        let name = word.get(..at).unwrap_or_default().rsplit(['=', ':']).next().unwrap_or_default();
        if is_secret(name) && at + 1 < word.len() {
            return format!("{}{MASKED}", word.get(..=at).unwrap_or_default());
        }
    }
    let word = mask_url(word);
    match SHAPES.iter().filter_map(|shape| word.find(shape)).min() {
        Some(at) if word.len() - at >= SHAPE_LENGTH && is_border(&word, at) => {
            format!("{}{MASKED}", word.get(..at).unwrap_or_default())
        }
        _ => word,
    }
}

/// A shape begins a value, and is no part of a class's name.
fn is_border(word: &str, at: usize) -> bool {
    !word.get(..at).unwrap_or_default().ends_with(|c: char| c.is_ascii_alphanumeric())
}

/// `scheme://user:password@host`
fn mask_url(word: &str) -> String {
    let Some((scheme, rest)) = word.split_once("://") else {
        return word.to_owned();
    };
    let authority = rest.split('/').next().unwrap_or_default();
    let Some((user, _)) = authority.rsplit_once('@') else {
        return word.to_owned();
    };
    let Some((name, _)) = user.split_once(':') else {
        return word.to_owned();
    };
    let tail = rest.get(user.len()..).unwrap_or_default();
    format!("{scheme}://{name}:{MASKED}{tail}")
}

/// `--password value`: the value is a word of its own.
fn hide_after_flags(mut words: Vec<String>) -> Vec<String> {
    let mut hide = false;
    // The last word is a name whose value would be a secret: `"password" : "..."`.
    let mut is_name = false;
    for word in &mut words {
        // What stands between words: spaces, quotation marks, commas.
        if !word.contains(|c: char| c.is_alphanumeric()) {
            hide |= is_name && word.contains([':', '=']);
            continue;
        }
        if is_name && word.starts_with([':', '=']) {
            word.truncate(1);
            word.push_str(MASKED);
        }
        if hide && !word.starts_with('-') {
            MASKED.clone_into(word);
        }
        let is_bearer = word.eq_ignore_ascii_case("bearer") || word.eq_ignore_ascii_case("basic");
        let is_flag = word.starts_with('-') && !word.contains('=') && is_secret(word);
        // `name="value"`: the quotation mark has parted them.
        let is_open = word.ends_with([':', '=']) && is_secret(word.trim_end_matches([':', '=']));
        hide = is_bearer || is_flag || is_open;
        is_name = !word.contains([':', '=', '.', '/']) && is_secret(word);
    }
    words
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let name = name.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    // What only sounds like it: a path separator, a class path, an author.
    let is_harmless = name.ends_with("author") || name.ends_with("authors") || name.contains("path.separator")
        // A frame of a stack: the number behind it is a line's.
        || [".java", ".kt", ".scala", ".groovy"].iter().any(|end| name.ends_with(end));
    !is_harmless
        && (NAMES.iter().any(|part| name.contains(part)) || ENDINGS.iter().any(|end| name.ends_with(end)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values_are_masked_wherever_they_stand() {
        let values = ["postgres".to_owned(), "s3same".to_owned()];
        let masked = without("s3same\nhello s3same, org.postgresql /postgres/", &values);
        assert_eq!(masked.as_deref(), Some("****\nhello ****, org.postgresql /****/"));
        assert_eq!(without("nothing of it", &values), None);
    }

    #[test]
    fn secrets_of_a_command_line() {
        let words = ["java", "-Ddb.password=open sesame", "-Durl=jdbc:x://app:s3same@db/x", "-jar", "a.jar"];
        let more = ["--token", "abc-def-123", "--port=80", "-Dsmall.key=1"];
        let line: Vec<String> = words.iter().chain(&more).map(|word| (*word).to_owned()).collect();
        assert_eq!(secrets_with(&line), ["abc-def-123", "open sesame", "s3same"]);
        assert_eq!(
            secrets_in("JAVA_TOOL_OPTIONS=-Da.key=sesame1 -Db=c -Dd.pin=sesame2"),
            ["sesame1", "sesame2"]
        );
        assert!(secrets_with(&[]).is_empty());
    }

    /// Ways in which a secret stands in a JVM's texts; `SESAME` is in each value.
    const PLANTED: [&str; 44] = [
        "DB_PASSWORD=SESAME",
        "DB_PASSWORD=open SESAME with spaces",
        "db.password=SESAME",
        "spring.datasource.password=SESAME",
        "SPRING_DATASOURCE_PASSWORD=SESAME",
        "AWS_SECRET_ACCESS_KEY=SESAME/x+y",
        "AWS_SESSION_TOKEN=SESAME",
        "AWS_ACCESS_KEY_ID=SESAME",
        "API_KEY=SESAME",
        "apiKey=SESAME",
        "STRIPE_APIKEY: SESAME",
        "jvm_args: -Ddb.password=SESAME -Xmx1g",
        "java_command: app.jar --password=SESAME --port=80",
        "java_command: app.jar --password SESAME --port 80",
        "java_command: app.jar -token SESAME",
        "-Djavax.net.ssl.keyStorePassword=SESAME",
        "-Djavax.net.ssl.trustStorePassword=\"SESAME\"",
        "DATABASE_URL=postgres://app:SESAME@db:5432/orders",
        "jdbc:postgresql://app:SESAME@db/orders",
        "url=jdbc:mysql://db/orders?user=app&password=SESAME",
        "url=jdbc:mysql://db/orders?password=SESAME&user=app",
        "redis://:SESAME@cache:6379",
        "amqp://guest:SESAME@mq",
        "Authorization: Bearer SESAME-0123456789",
        "header Authorization=SESAME",
        "GITHUB=ghp_SESAME0123456789abcdef",
        "with ghp_SESAME0123456789abcdef in a line",
        "AKIASESAME0123456789",
        "a line with xoxb-SESAME-0123456789",
        "jwt eyJhbGciOiJIUzI1NiJ9.SESAME.x",
        "glpat-SESAME0123456789",
        "sk_live_SESAME0123456789",
        "-----BEGIN RSA PRIVATE KEY-----\nSESAME\n-----END RSA PRIVATE KEY-----",
        "CLIENT_SECRET=SESAME",
        "vault.token=SESAME",
        "MY_PIN=SESAME",
        "ENCRYPTION_KEY=SESAME",
        "signature=SESAME",
        "session.cookie=SESAME",
        "credentials=SESAME",
        "JAVA_TOOL_OPTIONS=-Ddb.password=SESAME",
        "-javaagent:/a.jar=token=SESAME",
        "{\"user\":\"app\",\"password\":\"SESAME\"}",
        "{ \"pin\" : SESAME }",
    ];

    #[test]
    fn all_planted_none_found() {
        for line in PLANTED {
            for text in [line.to_owned(), format!("before\n{line}\nafter\n")] {
                let masked = mask(&text);
                assert!(!masked.contains("SESAME"), "{text:?} became {masked:?}");
            }
        }
    }

    #[test]
    fn what_is_no_secret_stays() {
        for line in [
            "java.version=21.0.8",
            "path.separator=:",
            "java.class.path=/app.jar",
            "jvm_args: -Xmx1g -XX:+UseG1GC",
            "java_command: app.jar --port=80",
            "http://user@host/path",
            "PASSWORD=",
            "   1:        123456       7890123  [B (java.base@21.0.8)",
            "VmRSS:\t  123456 kB",
        ] {
            assert_eq!(mask(line), line);
        }
    }
}
