//! What this machine offers to the suite, as `cargo xtask test` found it.

use crate::folders;
use crate::scenario::Init;
use libtest_mimic::{Failed, Trial};
use std::fmt::Display;
use std::path::{Path, PathBuf};

/// 11.0.10: the last JVMs that write into no pipe, and go back to what they have written.
pub(crate) const EARLY: u32 = 1110;

/// Everything that tests ask the outside for.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "what is there and what is not")]
pub(crate) struct Setup {
    /// The binary under test.
    pub(crate) binary: PathBuf,
    pub(crate) root: PathBuf,
    /// `java` launchers by the JDK's feature version.
    pub(crate) java: Vec<(u32, PathBuf)>,
    /// Where the sick service's classes are.
    pub(crate) classes: Option<PathBuf>,
    /// The engine's client, if an engine answers.
    pub(crate) docker: Option<PathBuf>,
    /// `docker run --init` runs our binary.
    pub(crate) docker_init_is_ours: bool,
    pub(crate) is_root: bool,
    /// Run the race hunts and the soak too.
    pub(crate) hunts: bool,
    pub(crate) store: Option<Store>,
    /// The client of several containers at once.
    pub(crate) compose: Option<PathBuf>,
    /// A reader of heap dumps that others wrote.
    pub(crate) hprof_slurp: Option<PathBuf>,
    /// The port of Azurite.
    pub(crate) azure: Option<u16>,
    /// A class path.
    pub(crate) liquibase: Option<String>,
    /// The folder of its programs.
    pub(crate) postgres: Option<PathBuf>,
    /// Every heap on every JVM.
    pub(crate) large: bool,
    /// Run every cell of the survival table.
    pub(crate) survival: bool,
    /// Every fault of a store on every JVM, and note what comes of it.
    pub(crate) all_faults: bool,
    is_ci: bool,
}

/// What a test cannot do without.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Need {
    /// An S3 server that others wrote.
    Store,
    /// `hprof-slurp`.
    Slurp,
    /// Azurite.
    Azure,
    /// PostgreSQL, and Liquibase.
    Database,
    /// A program of Debian's package of that name.
    Program(&'static str, &'static str),
    /// `docker-compose`.
    Compose,
    /// Root, for namespaces and users.
    Root,
    Java(u32),
    Docker,
    /// A private engine, whose init is our binary.
    DockerInit,
    /// Control groups of the first version, to freeze with and to limit memory.
    CgroupV1,
    /// Debian's package of that init; nothing for one of our own names.
    Peer(Init),
}

/// An S3 server that others wrote, with one bucket.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) endpoint: String,
    pub(crate) key: String,
    pub(crate) secret: String,
    pub(crate) bucket: String,
}

impl Store {
    /// `endpoint key secret bucket`
    fn read() -> Option<Self> {
        let text = std::env::var("BOOKEND_TEST_S3").ok()?;
        let mut words = text.split(' ').map(str::to_owned);
        Some(Self {
            endpoint: words.next()?,
            key: words.next()?,
            secret: words.next()?,
            bucket: words.next()?,
        })
    }
}

impl Setup {
    pub(crate) fn read() -> Self {
        let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
        let java = [11, 17, 21, 25, EARLY].into_iter().filter_map(|version| {
            variable(&format!("BOOKEND_TEST_JAVA_{version}")).map(|path| (version, path))
        });
        Self {
            binary: variable("BOOKEND_TEST_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_bookend").into()),
            root: env!("CARGO_MANIFEST_DIR").into(),
            java: java.collect(),
            classes: variable("BOOKEND_TEST_CLASSES"),
            docker: variable("BOOKEND_TEST_DOCKER"),
            docker_init_is_ours: std::env::var_os("BOOKEND_TEST_DOCKER_INIT").is_some(),
            hunts: std::env::var_os("BOOKEND_TEST_HUNTS").is_some(),
            store: Store::read(),
            compose: variable("BOOKEND_TEST_COMPOSE"),
            hprof_slurp: variable("BOOKEND_TEST_HPROF_SLURP"),
            azure: std::env::var("BOOKEND_TEST_AZURE").ok().and_then(|port| port.parse().ok()),
            liquibase: std::env::var("BOOKEND_TEST_LIQUIBASE").ok(),
            postgres: variable("BOOKEND_TEST_POSTGRES"),
            large: std::env::var_os("BOOKEND_TEST_LARGE").is_some(),
            all_faults: std::env::var_os("BOOKEND_TEST_FAULTS").is_some(),
            survival: std::env::var_os("BOOKEND_TEST_SURVIVAL").is_some(),
            is_root: nix::unistd::geteuid().is_root(),
            is_ci: std::env::var_os("CI").is_some_and(|value| value == "true"),
        }
    }

    pub(crate) fn java(&self, version: u32) -> Option<&Path> {
        self.java.iter().find(|(known, _)| *known == version).map(|(_, path)| path.as_path())
    }

    fn lacks(&self, need: Need) -> Option<String> {
        match need {
            Need::Root if !self.is_root => Some("needs root, for PID namespaces and users".to_owned()),
            Need::Java(version) if self.java(version).is_none() || self.classes.is_none() => {
                Some(format!("needs JDK {version}: run `cargo xtask test`"))
            }
            Need::Store if self.store.is_none() => Some("needs SeaweedFS: run `cargo xtask test`".to_owned()),
            Need::Compose if self.compose.is_none() => {
                Some("needs docker-compose: run `cargo xtask test`".to_owned())
            }
            Need::Program(path, package) if !Path::new(path).is_file() => {
                Some(format!("needs {path}: Debian's package {package}"))
            }
            Need::Azure if self.azure.is_none() => Some("needs Azurite: run `cargo xtask test`".to_owned()),
            Need::Database if self.postgres.is_none() || self.liquibase.is_none() => {
                Some("needs PostgreSQL and Liquibase: run `cargo xtask test`".to_owned())
            }
            Need::Slurp if self.hprof_slurp.is_none() => {
                Some("needs hprof-slurp: run `cargo xtask test`".to_owned())
            }
            Need::Docker if self.docker.is_none() => {
                Some("needs a Docker engine: run `cargo xtask test`".to_owned())
            }
            Need::DockerInit if !self.docker_init_is_ours => Some(
                "needs an engine whose init is ours: run `cargo xtask test` where none answers".to_owned(),
            ),
            Need::CgroupV1 if !Path::new("/sys/fs/cgroup/freezer/tasks").is_file() => {
                Some("needs cgroup v1, whose frozen processes are in disk sleep".to_owned())
            }
            Need::Peer(init) => init
                .peer()
                .filter(|path| !path.is_file())
                .map(|path| format!("needs {}: Debian's package {}", path.display(), init.name())),
            _ => None,
        }
    }

    /// A test that is skipped, by name and with the reason, where a need is not
    /// met; in CI that is a failure.
    pub(crate) fn trial<E: Display + Send + 'static>(
        &'static self,
        name: impl Into<String>,
        needs: &[Need],
        test: impl FnOnce(&'static Self) -> Result<(), E> + Send + 'static,
    ) -> Trial {
        let name = name.into();
        match needs.iter().find_map(|need| self.lacks(*need)) {
            Some(reason) if self.is_ci => {
                Trial::test(name, move || Err(Failed::from(format!("cannot be skipped in CI: {reason}"))))
            }
            Some(reason) => {
                Trial::test(format!("{name} (SKIPPED: {reason})"), || Ok(())).with_ignored_flag(true)
            }
            None => Trial::test(name, move || {
                folders::with(|| test(self)).map_err(|error| Failed::from(error.to_string()))
            }),
        }
    }
}
