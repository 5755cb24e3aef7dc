//! supervisord's configuration files: sections of `key = value` (Python's `ConfigParser`).

/// One `[section]`, with its keys in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) name: String,
    pub(super) entries: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) value: String,
    /// In the file, from 1.
    pub(super) line: usize,
}

impl Section {
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        // The last one counts.
        self.entries.iter().rev().find(|entry| entry.key == key).map(|entry| entry.value.as_str())
    }
}

/// # Errors
/// The line that is none of it.
pub(super) fn parse(text: &str) -> Result<Vec<Section>, String> {
    let mut sections: Vec<Section> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let is_continued = line.starts_with([' ', '\t']);
        let line = without_comment(line);
        if line.trim().is_empty() {
            continue;
        }
        if is_continued
            && let Some(entry) = sections.last_mut().and_then(|section| section.entries.last_mut())
        {
            entry.value.push('\n');
            entry.value.push_str(line.trim());
            continue;
        }
        let line = line.trim();
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            sections.push(Section { name: name.trim().to_owned(), entries: Vec::new() });
            continue;
        }
        let (Some((key, value)), Some(section)) = (line.split_once(['=', ':']), sections.last_mut()) else {
            return Err(format!("line {number} is neither a [section] nor key = value: {line}"));
        };
        let (key, value) = (key.trim().to_ascii_lowercase(), value.trim().to_owned());
        section.entries.push(Entry { key, value, line: number });
    }
    Ok(sections)
}

/// A whole line's comment, or one behind a blank and a semicolon.
fn without_comment(line: &str) -> &str {
    if line.trim_start().starts_with([';', '#']) {
        return "";
    }
    let at = [" ;", "\t;"].iter().filter_map(|mark| line.find(mark)).min();
    at.and_then(|at| line.get(..at)).unwrap_or(line)
}

/// A command as supervisord splits it (Python's `shlex`): at blanks, with quotes and backslashes.
///
/// # Errors
/// A quote that is not closed.
pub(super) fn words(command: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = command.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (Some(open), close) if open == close => quote = None,
            (Some('\''), other) => word.get_or_insert_default().push(other),
            (_, '\\') => word.get_or_insert_default().extend(characters.next()),
            (None, '"' | '\'') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, blank) if blank.is_whitespace() => words.extend(word.take()),
            (Some(_) | None, other) => word.get_or_insert_default().push(other),
        }
    }
    if quote.is_some() {
        return Err(format!("a quote is not closed: {command}"));
    }
    words.extend(word);
    Ok(words)
}

/// `KEY="value",KEY2=value` of `environment`.
pub(super) fn pairs(text: &str) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    let mut rest = text;
    while let Some((key, after)) = rest.split_once('=') {
        let after = after.trim_start();
        let quote = after.chars().next().filter(|c| ['"', '\''].contains(c));
        let (value, next) = match quote {
            Some(quote) => {
                let inner = after.get(1..).unwrap_or_default();
                let (value, next) = inner.split_once(quote).unwrap_or((inner, ""));
                (value, next.split_once(',').map_or("", |(_, next)| next))
            }
            None => after.split_once(',').unwrap_or((after, "")),
        };
        pairs.push((key.trim().to_owned(), value.trim().to_owned()));
        rest = next;
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_as_supervisord_does() {
        let text = "; all\n[supervisord]\nnodaemon=true ; in front\n\n[program:app]\ncommand = java -jar \"/my app.jar\"\n  --more\n# no\nurl: http://x\n";
        let sections = parse(text).expect("sound");
        assert_eq!(sections.len(), 2);
        let app = sections.get(1).expect("two");
        assert_eq!(app.get("command"), Some("java -jar \"/my app.jar\"\n--more"));
        assert_eq!(app.get("url"), Some("http://x"));
        assert_eq!(sections.first().and_then(|section| section.get("nodaemon")), Some("true"));
        assert!(parse("nonsense").is_err());
    }

    #[test]
    fn commands_and_pairs() {
        let words = |text: &str| words(text).expect("sound");
        assert_eq!(words("a 'b c' \"d \\\"e\" f\\ g ''"), ["a", "b c", "d \"e", "f g", ""]);
        assert!(super::words("a 'b").is_err());
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(pairs("A=\"1,2\", B=x,C='y z'"), [pair("A", "1,2"), pair("B", "x"), pair("C", "y z")]);
    }
}
