//! A real migration as a hook: Liquibase against a real PostgreSQL.

use crate::scenario::{Scenario, poll};
use crate::setup::{Need, Setup};
use libtest_mimic::Trial;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const JVM: u32 = 17;
const TABLES: &str = "--changeset a:1\ncreate table orders (id int primary key);\n";
const MORE: &str = "--changeset a:3\ncreate table lines (id int primary key);\n";

pub(crate) fn trials(setup: &'static Setup) -> Vec<Trial> {
    let needs = &[Need::Root, Need::Java(JVM), Need::Database];
    vec![
        setup.trial("migration::the_service_starts_on_what_it_made", needs, success),
        setup.trial("migration::a_failing_changeset_ends_the_container", needs, failure),
        setup.trial("migration::a_stop_in_its_middle_leaves_no_lock", needs, stop),
        setup.trial("migration::two_containers_at_once_make_it_once", needs, twice),
    ]
}

type Outcome = Result<(), String>;

/// A server of its own; stopped when dropped.
struct Database<'a> {
    programs: &'a Path,
    folder: PathBuf,
    port: u16,
}

impl<'a> Database<'a> {
    fn start(setup: &'a Setup) -> Self {
        let folder = Scenario::new(setup).folder().join("database");
        // Free again once it is known.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
        let port = port.expect("a free port").port();
        let programs = setup.postgres.as_deref().expect("the need was checked");
        let database = Self { programs, folder, port };
        database.run("initdb", &["--auth=trust", "--username=bookend", "--no-sync"]);
        // No socket file: the path of a checkout may be too long for one.
        let options =
            format!("-c port={port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off");
        let log = format!("--log={}.log", database.folder.display());
        database.run("pg_ctl", &["start", "--wait", "--silent", "--options", &options, &log]);
        database
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let output = self.try_run(program, arguments);
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{program}: {said}");
    }

    /// As the user that it refuses to run without.
    fn try_run(&self, program: &str, arguments: &[&str]) -> Output {
        Command::new("setpriv")
            .args(["--reuid=postgres", "--regid=postgres", "--clear-groups"])
            .arg(self.programs.join(program))
            .arg(format!("--pgdata={}", self.folder.display()))
            .args(arguments)
            .current_dir("/")
            .output()
            .expect("setpriv runs")
    }

    /// The answer to one query, a line a row.
    fn ask(&self, query: &str) -> Result<String, String> {
        let output = Command::new(self.programs.join("psql"))
            .args(["--no-psqlrc", "--tuples-only", "--no-align", "--host=127.0.0.1", "--username=bookend"])
            .arg(format!("--port={}", self.port))
            .args(["--command", query, "postgres"])
            .output()
            .map_err(|error| error.to_string())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    fn is_locked(&self) -> bool {
        self.ask("select locked from databasechangeloglock").expect("it is there") == "t"
    }

    fn changes(&self) -> String {
        self.ask("select string_agg(id, ',' order by orderexecuted) from databasechangelog")
            .expect("it is there")
    }

    fn has_table(&self, name: &str) -> bool {
        self.ask(&format!("select to_regclass('{name}') is not null")).expect("an answer") == "t"
    }

    /// The configuration with the migration as a hook.
    fn config(&self, setup: &Setup, folder: &Path, changes: &str, settings: &str) -> String {
        let file = folder.join("changes.sql");
        std::fs::write(&file, format!("--liquibase formatted sql\n{changes}")).expect("written");
        let java = setup.java(JVM).expect("the need was checked").display().to_string();
        let classes = setup.liquibase.as_deref().expect("the need was checked");
        let url = format!("--url=jdbc:postgresql://127.0.0.1:{}/postgres", self.port);
        let command = [
            &java,
            "-cp",
            classes,
            "liquibase.integration.commandline.LiquibaseCommandLine",
            &url,
            "--username=bookend",
            "--password=unused",
            "--changeLogFile=changes.sql",
            "update",
        ];
        let mut words = String::new();
        for word in command {
            write!(words, "{word:?}, ").expect("into a string");
        }
        format!(
            "[stop]\ngrace = \"60s\"\n[[hook]]\nname = \"migrate\"\nworkdir = \"{}\"\ncommand = [{words}]\n{settings}",
            folder.display()
        )
    }
}

impl Drop for Database<'_> {
    fn drop(&mut self) {
        drop(self.try_run("pg_ctl", &["stop", "--mode=immediate", "--silent"]));
    }
}

fn success(setup: &Setup) -> Outcome {
    let database = Database::start(setup);
    let scenario = Scenario::new(setup);
    let config = database.config(setup, scenario.folder(), &format!("{TABLES}{MORE}"), "");
    let ended = scenario.config(&config).shell("echo MAIN RUNS").finish();
    ended.exits(0).says_in_order("hook `migrate`", "MAIN RUNS");
    assert_eq!(database.changes(), "1,3");
    assert!(database.has_table("lines") && !database.is_locked());
    Ok(())
}

fn failure(setup: &Setup) -> Outcome {
    let database = Database::start(setup);
    let scenario = Scenario::new(setup);
    let wrong = format!("{TABLES}--changeset a:2\ninsert into nowhere values (1);\n{MORE}");
    let config = database.config(setup, scenario.folder(), &wrong, "");
    let ended = scenario.config(&config).shell("echo MAIN RUNS").finish();
    // Liquibase's own code.
    ended.exits(1).never_says("MAIN RUNS").says("hook `migrate` failed: the main process is not started");
    ended.says("relation \"nowhere\" does not exist");
    assert_eq!(database.changes(), "1");
    assert!(!database.is_locked());
    Ok(())
}

/// Liquibase dies of SIGTERM and leaves its lock, so that no later container gets past it. It is
/// left to finish instead, and ends in its own way.
fn stop(setup: &Setup) -> Outcome {
    for (settings, leaves_lock) in [("on_stop = \"finish\"\n", false), ("", true)] {
        let database = Database::start(setup);
        let scenario = Scenario::new(setup);
        // Under way until the test has seen it so and stopped the container.
        let slow = format!("{TABLES}--changeset a:2\nselect pg_sleep(5);\n{MORE}");
        let config = database.config(setup, scenario.folder(), &slow, settings);
        let running = scenario.config(&config).shell("echo MAIN RUNS").start();
        poll("its second change is under way", || {
            // By its beginning: these words are in the question too.
            let busy = "select count(*) from pg_stat_activity where query like 'select pg_sleep(5)%'";
            (database.ask(busy).ok()? == "1").then_some(())
        });
        let ended = running.stop();
        ended.exits(143).never_says("MAIN RUNS");
        assert_eq!(database.is_locked(), leaves_lock, "{}", ended.output);
        if !leaves_lock {
            ended.says("is left to finish");
            assert_eq!(database.changes(), "1,2,3", "{}", ended.output);
        }
    }
    Ok(())
}

/// The second waits for the first's lock, and finds everything made.
fn twice(setup: &Setup) -> Outcome {
    let database = Database::start(setup);
    let start = || {
        let scenario = Scenario::new(setup);
        let slow = format!("{TABLES}--changeset a:2\nselect pg_sleep(1);\n{MORE}");
        // In an empty database both make the table that holds the lock, and one of them fails of it.
        let config = database.config(setup, scenario.folder(), &slow, "retries = 3\n");
        scenario.config(&config).shell("echo MAIN RUNS").start()
    };
    let both = [start(), start()];
    for running in both {
        running.wait().exits(0).says("MAIN RUNS");
    }
    assert_eq!(database.changes(), "1,2,3");
    assert!(!database.is_locked());
    Ok(())
}
