//! The keys about what a process may do, the same in every section that starts one.

use super::document::{Node, Value};
use super::reader::{Context, FromNode, Reader, resolve, suggestion};
use super::values::{Setting, braces, table};
use super::{Diagnostic, Place};
use crate::units::{Attributes, Capability, Limit, Resource};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// As they were written.
#[derive(Clone, Debug)]
pub struct AttributeKeys {
    umask: Option<Setting<Umask>>,
    nice: Option<Setting<Nice>>,
    oom_score_adj: Option<Setting<OomScoreAdjustment>>,
    no_new_privs: Option<Setting<bool>>,
    caps: Option<Setting<Vec<Capability>>>,
    limits: Option<Setting<BTreeMap<Resource, Limit>>>,
}

impl AttributeKeys {
    pub(super) fn read(reader: &mut Reader<'_>, context: &mut Context) -> Self {
        Self {
            umask: reader.optional("umask", context),
            nice: reader.optional("nice", context),
            oom_score_adj: reader.optional("oom_score_adj", context),
            no_new_privs: reader.optional("no_new_privs", context),
            caps: reader.optional("caps", context),
            limits: reader.optional("limits", context),
        }
    }

    /// What is written here over what is said elsewhere.
    pub fn over(&self, base: &Attributes) -> Attributes {
        Attributes {
            umask: self.umask.as_ref().map(|umask| umask.value.0).or(base.umask),
            nice: self.nice.as_ref().map(|nice| nice.value.0).or(base.nice),
            oom_score_adj: self.oom_score_adj.as_ref().map(|score| score.value.0).or(base.oom_score_adj),
            no_new_privs: self.no_new_privs.as_ref().map_or(base.no_new_privs, |flag| flag.value),
            capabilities: self
                .caps
                .as_ref()
                .map(|caps| caps.value.clone())
                .or_else(|| base.capabilities.clone()),
            limits: self.limits.as_ref().map_or_else(
                || base.limits.clone(),
                |limits| limits.value.iter().map(|(resource, limit)| (*resource, *limit)).collect(),
            ),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Umask(u16);

impl FromNode for Umask {
    const EXPECTED: &'static str = "a mask in octal such as \"027\"";
    fn from_value(value: &Value) -> Result<Self, Option<String>> {
        let text = match value {
            Value::String(text) | Value::Text(text) => text,
            Value::Integer(number) => {
                return Err(Some(format!("{number} may be meant in octal or not; write it as a string")));
            }
            _ => return Err(None),
        };
        match u16::from_str_radix(text, 8) {
            Ok(mask) if mask <= 0o777 => Ok(Self(mask)),
            _ => Err(Some(format!("`{text}` is not between 000 and 777"))),
        }
    }
    fn show(&self) -> String {
        format!("\"{:03o}\"", self.0)
    }
}

fn number<T: TryFrom<i64>>(value: &Value, range: RangeInclusive<i64>) -> Result<T, Option<String>> {
    let Value::Integer(number) = resolve(value)? else {
        return Err(None);
    };
    let out_of_range = || Some(format!("{number} is out of range"));
    if !range.contains(&number) {
        return Err(out_of_range());
    }
    T::try_from(number).map_err(|_| out_of_range())
}

#[derive(Clone, Copy, Debug)]
struct Nice(i8);

impl FromNode for Nice {
    const EXPECTED: &'static str = "a whole number from -20 to 19";
    fn from_value(value: &Value) -> Result<Self, Option<String>> {
        number(value, -20..=19).map(Self)
    }
    fn show(&self) -> String {
        self.0.to_string()
    }
}

#[derive(Clone, Copy, Debug)]
struct OomScoreAdjustment(i16);

impl FromNode for OomScoreAdjustment {
    const EXPECTED: &'static str = "a whole number from -1000 to 1000";
    fn from_value(value: &Value) -> Result<Self, Option<String>> {
        number(value, -1000..=1000).map(Self)
    }
    fn show(&self) -> String {
        self.0.to_string()
    }
}

impl FromNode for Capability {
    const EXPECTED: &'static str = "a capability such as \"NET_BIND_SERVICE\"";
    fn from_value(value: &Value) -> Result<Self, Option<String>> {
        let text = String::from_value(value)?;
        Self::parse(&text).ok_or_else(|| Some(format!("the kernel has no capability `{text}`")))
    }
    fn show(&self) -> String {
        format!("\"{self}\"")
    }
}

impl FromNode for Limit {
    const EXPECTED: &'static str = "a limit such as 65536, \"unlimited\" or \"1024:4096\" (soft:hard)";
    fn from_value(value: &Value) -> Result<Self, Option<String>> {
        match value {
            Value::String(text) | Value::Text(text) => Self::parse(text).map_err(Some),
            Value::Integer(number) => Self::parse(&number.to_string()).map_err(Some),
            _ => Err(None),
        }
    }
    fn show(&self) -> String {
        format!("\"{self}\"")
    }
}

/// `{ nofile = 65536, core = "unlimited" }`
impl FromNode for BTreeMap<Resource, Limit> {
    const EXPECTED: &'static str = "a table of limits such as { nofile = 65536, core = \"unlimited\" }";
    fn from_value(_: &Value) -> Result<Self, Option<String>> {
        Err(None)
    }
    fn from_node(node: &Node) -> Result<Self, Diagnostic> {
        let names: Vec<&str> = Resource::NAMES.iter().map(|(name, _)| *name).collect();
        let mut limits = Self::new();
        for (name, place, item) in table(node, Self::EXPECTED)? {
            let Some((_, resource)) = Resource::NAMES.iter().find(|(known, _)| *known == name) else {
                return Err(unknown(&name, &names, &place));
            };
            limits.insert(*resource, Limit::from_node(&item)?);
        }
        Ok(limits)
    }
    fn show(&self) -> String {
        braces(
            &self
                .iter()
                .map(|(resource, limit)| format!("{} = {}", resource.name(), limit.show()))
                .collect::<Vec<_>>(),
        )
    }
}

fn unknown(name: &str, names: &[&str], place: &Place) -> Diagnostic {
    let label = match suggestion(name, names) {
        Some(known) => format!("did you mean `{known}`?"),
        None => "no such resource".to_owned(),
    };
    Diagnostic::error(format!("there is no limit `{name}`"), place, label)
        .help(format!("known: {}", names.join(", ")))
}
