//! Users and groups from `/etc/passwd` and `/etc/group` alone.
//!
//! Never through the C library: a static glibc would load the image's own NSS
//! modules. Formats: `passwd(5)`, `group(5)`. The forms of a user are those of
//! gosu and `docker run --user`.

use std::cell::OnceCell;

/// The users of this system: read when somebody is first looked for.
#[derive(Clone, Debug, Default)]
pub struct Users(OnceCell<Files>);

/// The two files, as far as they could be read.
#[derive(Clone, Debug, Default)]
struct Files {
    accounts: Vec<Account>,
    groups: Vec<Group>,
}

#[derive(Clone, Debug)]
struct Account {
    name: String,
    user: u32,
    group: u32,
    home: String,
}

#[derive(Clone, Debug)]
struct Group {
    name: String,
    group: u32,
    members: Vec<String>,
}

/// Somebody that a process can run as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub user: u32,
    pub group: u32,
    /// All groups, the primary one included.
    pub groups: Vec<u32>,
    /// The account's name; the number where it has none.
    pub name: String,
    /// The account's home; `/` where it has none.
    pub home: String,
}

impl Users {
    /// From both files' contents.
    pub fn parse(passwd: &[u8], group: &[u8]) -> Self {
        Self(OnceCell::from(Files::parse(passwd, group)))
    }

    /// Whether it has one of the forms that [`Self::resolve`] knows; nothing is looked up.
    pub fn is_well_formed(text: &str) -> bool {
        !text.is_empty()
            && text.split_once(':').is_none_or(|(user, group)| !user.is_empty() && !group.is_empty())
    }

    /// Resolves `name`, `uid`, `name:group`, `uid:gid` and mixtures. A number
    /// needs no entry; a name does. An explicit group is the only group.
    ///
    /// # Errors
    /// Which part does not exist, with the names there are.
    pub fn resolve(&self, text: &str) -> Result<Identity, String> {
        self.0.get_or_init(Files::read).resolve(text)
    }
}

impl Files {
    /// Reads both; a missing one is an empty one (`FROM scratch`).
    fn read() -> Self {
        let read = |path: &str| std::fs::read(path).unwrap_or_default();
        Self::parse(&read("/etc/passwd"), &read("/etc/group"))
    }

    /// Parses both formats; lines that are not of the format are passed over.
    fn parse(passwd: &[u8], group: &[u8]) -> Self {
        let passwd = String::from_utf8_lossy(passwd);
        let group = String::from_utf8_lossy(group);
        let accounts = passwd.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next().filter(|name| !name.is_empty())?;
            let user = fields.nth(1)?.parse().ok()?;
            let group = fields.next()?.parse().ok()?;
            let home = fields.nth(1)?;
            Some(Account { name: name.to_owned(), user, group, home: home.to_owned() })
        });
        let groups = group.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next().filter(|name| !name.is_empty())?;
            let group = fields.nth(1)?.parse().ok()?;
            let members = fields.next().unwrap_or("").split(',').filter(|name| !name.is_empty());
            Some(Group { name: name.to_owned(), group, members: members.map(str::to_owned).collect() })
        });
        Self { accounts: accounts.collect(), groups: groups.collect() }
    }

    fn resolve(&self, text: &str) -> Result<Identity, String> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        if !Users::is_well_formed(text) {
            return Err("write it as name, name:group, uid or uid:gid".to_owned());
        }
        let number = user.parse::<u32>().ok();
        let account = self.accounts.iter().find(|account| account.name == user).or_else(|| {
            let number = number?;
            self.accounts.iter().find(|account| account.user == number)
        });
        let (id, primary) = match (account, number) {
            (Some(account), _) => (account.user, account.group),
            (None, Some(number)) => (number, 0),
            (None, None) => {
                let known: Vec<&str> = self.accounts.iter().map(|account| account.name.as_str()).collect();
                return Err(format!("there is no user `{user}` in /etc/passwd ({})", list(&known)));
            }
        };
        let (primary, groups) = match group {
            Some(group) => {
                let explicit = self.resolve_group(group)?;
                (explicit, vec![explicit])
            }
            None => (primary, self.groups_of(account, primary)),
        };
        Ok(Identity {
            user: id,
            group: primary,
            groups,
            name: account.map_or_else(|| id.to_string(), |account| account.name.clone()),
            home: account
                .map(|account| account.home.clone())
                .filter(|home| !home.is_empty())
                .unwrap_or_else(|| "/".to_owned()),
        })
    }

    fn resolve_group(&self, text: &str) -> Result<u32, String> {
        if let Some(group) = self.groups.iter().find(|group| group.name == text) {
            return Ok(group.group);
        }
        text.parse().map_err(|_| {
            let known: Vec<&str> = self.groups.iter().map(|group| group.name.as_str()).collect();
            format!("there is no group `{text}` in /etc/group ({})", list(&known))
        })
    }

    fn groups_of(&self, account: Option<&Account>, primary: u32) -> Vec<u32> {
        let mut groups = vec![primary];
        if let Some(account) = account {
            let listed = self.groups.iter().filter(|group| group.members.contains(&account.name));
            groups.extend(listed.map(|group| group.group));
        }
        groups.sort_unstable();
        groups.dedup();
        groups
    }
}

fn list(names: &[&str]) -> String {
    match names {
        [] => "the file is missing or empty; use a number".to_owned(),
        names => format!("it has {}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] =
        b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/srv/app:\nbroken\n:x:1:1::/:\nnohome:x:7:7:::\n";
    const GROUP: &[u8] = b"root:x:0:\napp:x:1000:\ndocker:x:999:app,other\nvideo:x:44:app\n\xff\n";

    fn resolve(text: &str) -> Result<Identity, String> {
        Users::parse(PASSWD, GROUP).resolve(text)
    }

    #[test]
    fn the_forms_that_gosu_knows() {
        for (text, user, group, groups, name, home) in [
            ("root", 0, 0, vec![0], "root", "/root"),
            ("app", 1000, 1000, vec![44, 999, 1000], "app", "/srv/app"),
            ("1000", 1000, 1000, vec![44, 999, 1000], "app", "/srv/app"),
            ("app:docker", 1000, 999, vec![999], "app", "/srv/app"),
            ("app:0", 1000, 0, vec![0], "app", "/srv/app"),
            ("0:1000", 0, 1000, vec![1000], "root", "/root"),
            ("4711", 4711, 0, vec![0], "4711", "/"),
            ("4711:4712", 4711, 4712, vec![4712], "4711", "/"),
            ("4711:video", 4711, 44, vec![44], "4711", "/"),
            ("nohome", 7, 7, vec![7], "nohome", "/"),
        ] {
            let identity = resolve(text).expect(text);
            assert_eq!(
                (
                    identity.user,
                    identity.group,
                    identity.groups,
                    identity.name.as_str(),
                    identity.home.as_str()
                ),
                (user, group, groups, name, home),
                "{text}"
            );
        }
    }

    #[test]
    fn refuses_what_is_not_there() {
        for (text, part) in [
            ("", "write it as"),
            (":app", "write it as"),
            ("app:", "write it as"),
            ("nobody", "no user `nobody`"),
            ("app:nogroup", "no group `nogroup`"),
            ("-1", "no user"),
            ("4294967296", "no user"),
        ] {
            let error = resolve(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
        let error = Users::parse(b"", b"").resolve("app").expect_err("empty");
        assert!(error.contains("missing or empty"), "{error}");
    }
}
