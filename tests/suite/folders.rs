//! Each scenario's folder below `target/test-runs`. Some hold gigabytes: those of a test that passes
//! go with it, those of one that fails stay until the next run.

use std::cell::RefCell;
use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

static NUMBER: AtomicU32 = AtomicU32::new(0);

thread_local! {
    /// By the test that this thread runs.
    static MADE: RefCell<Vec<PathBuf>> = const { RefCell::new(Vec::new()) };
}

fn parent(root: &Path) -> PathBuf {
    root.join("target/test-runs")
}

/// A new one.
pub(crate) fn make(root: &Path) -> PathBuf {
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let folder = parent(root).join(format!("{}-{number}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder for the test");
    MADE.with_borrow_mut(|made| made.push(folder.clone()));
    folder
}

/// Runs a test; what it made goes with it, unless it fails.
pub(crate) fn with<E: Display>(test: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
    MADE.with_borrow_mut(Vec::clear);
    test()?;
    for folder in MADE.take() {
        remove(&folder);
    }
    Ok(())
}

/// Removes what earlier runs have left.
pub(crate) fn clear(root: &Path) {
    for folder in fs::read_dir(parent(root)).into_iter().flatten().flatten() {
        let name = folder.file_name().to_string_lossy().into_owned();
        let owner = name.split('-').next().unwrap_or_default();
        if !Path::new("/proc").join(owner).exists() {
            remove(&folder.path());
        }
    }
}

/// Nothing that is mounted there is ours.
fn remove(folder: &Path) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    if !mounts.contains(&folder.display().to_string()) {
        drop(fs::remove_dir_all(folder));
    }
}
