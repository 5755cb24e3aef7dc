//! Every configuration that the project shows is one that it accepts.

use crate::setup::Setup;
use libtest_mimic::Trial;
use std::path::{Path, PathBuf};

pub(crate) fn trials(setup: &'static Setup) -> Vec<Trial> {
    vec![
        setup.trial("examples::every_toml_file_is_accepted", &[], files),
        setup.trial("examples::every_toml_block_in_the_documents_is_accepted", &[], blocks),
        setup.trial("examples::the_full_example_names_every_key", &[], full),
    ]
}

type Outcome = Result<(), String>;

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
    if text.contains("[[hook]]") {
        command.args(["--set", &format!("hook.0.{own}")]);
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
