//! Every configuration that the project shows is one that it accepts.

use crate::setup::Setup;
use libtest_mimic::Trial;
use std::path::{Path, PathBuf};

pub(crate) fn trials(setup: &'static Setup) -> Vec<Trial> {
    vec![
        setup.trial("examples::every_toml_file_is_accepted", &[], files),
        setup.trial("examples::every_toml_block_in_the_documents_is_accepted", &[], blocks),
        setup.trial("examples::the_full_example_names_every_key", &[], full),
        setup.trial("examples::supervisord_is_imported_and_every_key_has_a_word", &[], imported),
        setup.trial("examples::task_definitions_say_what_the_configuration_says", &[], task_definitions),
    ]
}

/// Given the names of all tests.
pub(crate) fn named(setup: &'static Setup, names: Vec<String>) -> Trial {
    setup.trial("examples::tests_that_documents_name_are_there", &[], move |setup| tests_named(setup, &names))
}

type Outcome = Result<(), String>;

/// A document that says which test shows something would otherwise go on saying so.
fn tests_named(setup: &Setup, names: &[String]) -> Outcome {
    let modules: Vec<_> =
        names.iter().filter_map(|name| name.split_once("::")).map(|(module, _)| module).collect();
    let mut found = 0_usize;
    for path in below(&setup.root.join("docs"), "md") {
        let text = std::fs::read_to_string(&path).map_err(|error| error.to_string())?;
        for quoted in text.split('`').skip(1).step_by(2) {
            let Some((module, _)) = quoted.split_once("::") else { continue };
            if !modules.contains(&module) {
                continue;
            }
            found = found.saturating_add(1);
            if !names.iter().any(|name| name == quoted) {
                return Err(format!("{} names {quoted}, and there is no such test", path.display()));
            }
        }
    }
    assert!(found >= 10, "only {found} tests are named: the documents are not read as they are written");
    Ok(())
}

fn accepted(setup: &Setup, path: &Path) -> Outcome {
    let output = check(setup, path)?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{}:\n{}", path.display(), String::from_utf8_lossy(&output.stderr)))
}

/// Checks it with this machine's own user in place of those of the examples' images.
fn check(setup: &Setup, path: &Path) -> Result<std::process::Output, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let own = format!("user={}:{}", nix::unistd::geteuid(), nix::unistd::getegid());
    let mut command = std::process::Command::new(&setup.binary);
    command.arg("check").arg(path).args(["--set", &format!("main.{own}")]).env_clear();
    for (section, name) in [("[[hook]]", "hook"), ("[[process]]", "process")] {
        for index in 0..text.matches(section).count() {
            command.args(["--set", &format!("{name}.{index}.{own}")]);
        }
    }
    command.output().map_err(|error| error.to_string())
}

fn below(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(below(&path, extension));
        } else if path.extension().is_some_and(|ending| ending == extension) {
            found.push(path);
        }
    }
    found
}

fn files(setup: &Setup) -> Outcome {
    let files = below(&setup.root.join("examples"), "toml");
    assert!(files.len() >= 2, "{files:?}");
    files.iter().try_for_each(|path| accepted(setup, path))
}

fn blocks(setup: &Setup) -> Outcome {
    let mut documents = below(&setup.root.join("docs"), "md");
    documents.extend(below(&setup.root.join("examples"), "md"));
    documents.push(setup.root.join("README.md"));
    let mut count = 0;
    for document in documents {
        let text = std::fs::read_to_string(&document).map_err(|error| error.to_string())?;
        for (index, block) in text.split("```toml\n").skip(1).enumerate() {
            let block = block.split("```").next().unwrap_or_default();
            let scenario = crate::scenario::Scenario::new(setup);
            let path = scenario.folder().join(format!("block-{index}.toml"));
            std::fs::write(&path, block).map_err(|error| error.to_string())?;
            accepted(setup, &path).map_err(|error| format!("{}: {error}", document.display()))?;
            count += 1;
        }
    }
    assert!(count > 0, "the documents show no configuration");
    Ok(())
}

/// The file in the folder is what the verb makes; who says nothing of a key is told so.
fn imported(setup: &Setup) -> Outcome {
    let folder = setup.root.join("examples/supervisord");
    let import = |path: &Path, more: &[&str]| {
        let output = std::process::Command::new(&setup.binary).arg("import").arg(path).args(more).output();
        output.expect("it runs")
    };
    let output = import(&folder.join("supervisord.conf"), &[]);
    let notes = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{notes}");
    let kept = std::fs::read_to_string(folder.join("bookend.toml")).map_err(|error| error.to_string())?;
    assert_eq!(String::from_utf8_lossy(&output.stdout), kept, "make it anew: bookend import");
    for word in [
        "stdout_logfile=/var/log/nginx.log",
        "stopwaitsecs=60",
        "startsecs=0",
        "it is a hook now",
        "loglevel",
    ] {
        assert!(notes.contains(word), "{word} is not in {notes}");
    }
    let scenario = crate::scenario::Scenario::new(setup);
    let two = scenario.folder().join("two.conf");
    std::fs::write(&two, "[program:a]\ncommand=/a\n[program:b]\ncommand=/b\n")
        .map_err(|error| error.to_string())?;
    let refused = import(&two, &[]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && said.contains("--main with one of a, b"), "{said}");
    let chosen = import(&two, &["--main", "b"]);
    assert!(String::from_utf8_lossy(&chosen.stdout).contains("[main]\ncommand = [\"/b\"]"));
    Ok(())
}

/// The grace period is in two places, and both must say the same.
fn task_definitions(setup: &Setup) -> Outcome {
    let folder = setup.root.join("examples/ecs");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).map_err(|error| error.to_string());
    for (name, seconds) in [("fargate.json", 120), ("ec2.json", 600)] {
        let value: serde_json::Value =
            serde_json::from_str(&read(name)?).map_err(|error| format!("{name}: {error}"))?;
        let container = &value["containerDefinitions"][0];
        assert_eq!(container["stopTimeout"], seconds, "{name}");
        assert_eq!(container["healthCheck"]["command"][1], "/bookend", "{name}");
        // Fargate takes no more than that.
        assert!(name != "fargate.json" || seconds <= 120);
    }
    assert!(read("bookend.toml")?.contains("grace = \"120s\""));
    assert!(read("ec2.json")?.contains("\"BOOKEND_STOP__GRACE\", \"value\": \"600s\""));
    let policy: serde_json::Value =
        serde_json::from_str(&read("policy.json")?).map_err(|error| error.to_string())?;
    assert_eq!(
        policy["Statement"][0]["Action"],
        serde_json::json!(["s3:PutObject", "s3:AbortMultipartUpload"])
    );
    Ok(())
}

/// `check` prints every key there is; the commented example must not forget one.
fn full(setup: &Setup) -> Outcome {
    let path = setup.root.join("examples/bookend.toml");
    let text = std::fs::read_to_string(&path).map_err(|error| error.to_string())?;
    let output = check(setup, &path)?;
    for line in String::from_utf8_lossy(&output.stdout).lines().filter(|line| !line.starts_with('#')) {
        let key = line.split(' ').next().and_then(|path| path.rsplit('.').next()).unwrap_or_default();
        let shown = text.lines().any(|line| {
            line.contains(&format!(" {key} = "))
                || line
                    .trim_start_matches(['#', ' '])
                    .strip_prefix(key)
                    .is_some_and(|rest| rest.trim_start().starts_with('='))
        });
        assert!(shown, "`{key}` is not in {}", path.display());
    }
    Ok(())
}
