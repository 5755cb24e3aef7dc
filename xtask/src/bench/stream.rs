//! A heap dump of one JVM into a bucket: by the usual script, by the JVM's own gzip, by
//! bookend; and how long each stage takes alone.

use super::{Namespace, field, median};
use crate::seaweed::{BUCKET, KEY, SECRET, Seaweed};
use crate::tools::{build, need, quietly, say, target};
use crate::{java, python};
use anyhow::{Context, Result, anyhow, bail};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const AWS_CLI: &str = "awscli==1.46.3";
/// The ways of bookend that are compared: a name, and what stands in its configuration.
const OURS: [(&str, &str); 4] = [
    ("bookend", "compression = \"zstd\""),
    ("bookend, redacted", "compression = \"zstd\"\nredact = \"primitives\""),
    ("bookend, encrypted", "compression = \"zstd\"\nencrypt_to = [\"RECIPIENT\"]"),
    ("bookend, auto", "compression = \"auto\""),
];

struct Options {
    versions: Vec<u32>,
    heap: String,
    turns: usize,
}

pub(super) fn run(arguments: &[String]) -> Result<()> {
    let mut options = Options { versions: vec![17, 21, 25], heap: "1250m".to_owned(), turns: 3 };
    for argument in arguments {
        match argument.split_once('=') {
            Some(("--jdk", text)) => {
                options.versions = text.split(',').map(str::parse).collect::<Result<_, _>>()?;
            }
            Some(("--heap", text)) => text.clone_into(&mut options.heap),
            Some(("--turns", text)) => options.turns = text.parse()?,
            _ => bail!("`{argument}`: say --jdk=17,21,25 --heap=1250m --turns=3"),
        }
    }
    let bookend = build()?;
    for (program, package) in [("curl", "curl"), ("zstd", "zstd"), ("age-keygen", "age")] {
        need(program, package)?;
    }
    let aws = target().join("tools/awscli");
    python::install_into(AWS_CLI, &aws)?;
    for version in &options.versions {
        Bench::new(*version, &options, &bookend, &aws)?.run(options.turns)?;
    }
    Ok(())
}

/// One JVM, several times, each under a bookend with another configuration.
struct Bench {
    version: u32,
    heap: String,
    folder: PathBuf,
    server: Seaweed,
    services: Vec<Service>,
    bookend: PathBuf,
    jcmd: PathBuf,
    aws: PathBuf,
}

/// A sick service under bookend.
struct Service {
    name: &'static str,
    prefix: String,
    namespace: Namespace,
    /// In our own namespace.
    jvm: u32,
    agent: u32,
}

/// Of one way of bookend.
#[derive(Default)]
struct Ours {
    times: Vec<Duration>,
    work: Work,
    stored: u64,
    written: u64,
    /// kB.
    peak: u64,
}

impl Bench {
    fn new(version: u32, options: &Options, bookend: &Path, aws: &Path) -> Result<Self> {
        let folder = target().join("bench/stream");
        drop(std::fs::remove_dir_all(&folder));
        std::fs::create_dir_all(&folder)?;
        let server = Seaweed::start(&folder.join("seaweedfs"))?;
        let key = quietly(&mut Command::new("age-keygen"))?;
        let recipient = key
            .lines()
            .find_map(|line| line.strip_prefix("# public key: "))
            .context("age-keygen gave no public key")?;
        say(&format!("Starting JDK {version} with {} of live heap, {} times", options.heap, OURS.len()));
        let mut services = Vec::new();
        for (index, (name, heap)) in OURS.iter().enumerate() {
            let prefix = format!("way-{index}");
            let spool = folder.join(format!("spool-{index}"));
            let config = format!(
                "[service]\nname = \"sick\"\n[store]\nurl = \"s3://{BUCKET}/{prefix}\"\nendpoint = \"{}\"\n\
                 region = \"eu-central-1\"\n[spool]\ndir = \"{}\"\n[heap]\n{}\n\
                 [[rule]]\nname = \"by-hand\"\non = \"manual\"\ncapture = [\"heap\"]\nlimit = {{ times = 100, per = \"1h\" }}\n",
                server.endpoint(),
                spool.display(),
                heap.replace("RECIPIENT", recipient),
            );
            let file = folder.join(format!("bookend-{index}.toml"));
            std::fs::write(&file, config)?;
            services.push(Service::start(name, prefix, &file, version, &options.heap, bookend)?);
        }
        Ok(Self {
            version,
            heap: options.heap.clone(),
            folder,
            server,
            services,
            bookend: bookend.to_owned(),
            jcmd: java::development_kit()?.join("bin/jcmd"),
            aws: aws.to_owned(),
        })
    }

    fn run(&self, turns: usize) -> Result<()> {
        let jvm = &self.services.first().context("no service")?.jvm.to_string();
        let plain = self.folder.join("plain.hprof");
        let packed = self.folder.join("plain.hprof.zst");
        let (mut file, mut drained, mut compressed, mut sent) = (vec![], vec![], vec![], vec![]);
        let mut size = 0;
        let (mut script, mut own_gzip) = (Vec::new(), Vec::new());
        let mut ours: Vec<Ours> = self.services.iter().map(|_| Ours::default()).collect();
        for turn in 1..=turns {
            say(&format!("JDK {}: turn {turn} of {turns}", self.version));
            // (a), and what the stages are measured with.
            file.push(Self::timed(|| self.dump(jvm, &plain, &[]))?);
            size = std::fs::metadata(&plain)?.len();
            compressed.push(Self::timed(|| self.drain(jvm, true))?);
            quietly(Command::new("zstd").args(["-2", "-q", "-f"]).arg(&plain).arg("-o").arg(&packed))?;
            let url = format!("{}/{BUCKET}/alone/heap.hprof.zst", self.server.endpoint());
            sent.push(Self::timed(|| {
                Seaweed::curl(&[
                    "-H",
                    "x-amz-content-sha256: UNSIGNED-PAYLOAD",
                    "-T",
                    &packed.display().to_string(),
                    &url,
                ])
                .map(drop)
            })?);
            drained.push(Self::timed(|| self.drain(jvm, false))?);
            // (b), (c)
            let steps = [
                Self::timed(|| self.dump(jvm, &plain, &[]))?,
                Self::timed(|| quietly(Command::new("gzip").args(["-1", "-f"]).arg(&plain)).map(drop))?,
                Self::timed(|| self.upload(&self.folder.join("plain.hprof.gz")))?,
            ];
            script.push(steps);
            let steps = [
                Self::timed(|| self.dump(jvm, &self.folder.join("own.hprof.gz"), &["-gz=1"]))?,
                Self::timed(|| self.upload(&self.folder.join("own.hprof.gz")))?,
            ];
            own_gzip.push(steps);
            for (service, ours) in self.services.iter().zip(&mut ours) {
                service.capture(self, ours)?;
            }
        }
        drop(std::fs::remove_file(&packed));
        println!(
            "\nJDK {}: a heap dump with {} live, into a bucket of SeaweedFS (median of {turns} turns)",
            self.version, self.heap
        );
        let seconds = |time: Duration| time.as_secs_f64();
        let (file, drained) = (seconds(median(file)), seconds(median(drained)));
        let (compressed, sent) = (seconds(median(compressed)), seconds(median(sent)));
        println!("  (a) jcmd GC.heap_dump to a file               {file:7.2} s   {} MB", size / 1_000_000);
        let totals = |steps: &[Duration]| seconds(steps.iter().sum());
        let script = by_total(script.iter().map(|steps| steps.to_vec()).collect());
        let own = by_total(own_gzip.iter().map(|steps| steps.to_vec()).collect());
        let usual = totals(&script);
        println!("  (b) jcmd, gzip -1, aws s3 cp                  {usual:7.2} s   = {}", shown(&script));
        println!(
            "  (c) jcmd -gz=1, aws s3 cp                     {:7.2} s   = {}",
            totals(&own),
            shown(&own)
        );
        println!(
            "  stages alone: JVM into a drained pipe {drained:.2} s, that and zstd -2 {compressed:.2} s, upload {sent:.2} s"
        );
        let slowest = drained.max(compressed).max(sent);
        for (service, ours) in self.services.iter().zip(ours) {
            let time = seconds(median(ours.times));
            println!(
                "  (d) {:42}{time:7.2} s   {:.2} x slowest stage, (b) / {:.1}; {} MB stored, {} kB on disk, agent's peak {} MB",
                service.name,
                time / slowest,
                usual / time,
                ours.stored / 1_000_000,
                ours.written / 1000,
                ours.peak / 1024,
            );
            println!("      {}", ours.work.shown());
        }
        Ok(())
    }

    /// How long that takes, on a disk with nothing left to write.
    fn timed(work: impl FnOnce() -> Result<()>) -> Result<Duration> {
        quietly(&mut Command::new("sync"))?;
        let begun = Instant::now();
        work()?;
        Ok(begun.elapsed())
    }

    fn dump(&self, jvm: &str, to: &Path, options: &[&str]) -> Result<()> {
        drop(std::fs::remove_file(to));
        self.dump_over(jvm, to, options)
    }

    fn dump_over(&self, jvm: &str, to: &Path, options: &[&str]) -> Result<()> {
        let said =
            quietly(Command::new(&self.jcmd).args([jvm, "GC.heap_dump", "-all"]).args(options).arg(to))?;
        if !said.contains("Heap dump file created") {
            bail!("jcmd: {said}");
        }
        Ok(())
    }

    fn upload(&self, file: &Path) -> Result<()> {
        let mut command = Command::new(python::python()?);
        command.args([
            "-m",
            "awscli",
            "s3",
            "cp",
            "--no-progress",
            "--endpoint-url",
            &self.server.endpoint(),
        ]);
        command.arg(file).arg(format!("s3://{BUCKET}/script/"));
        command.env("PYTHONPATH", &self.aws).env("AWS_DEFAULT_REGION", "eu-central-1");
        command.env("AWS_ACCESS_KEY_ID", KEY).env("AWS_SECRET_ACCESS_KEY", SECRET);
        quietly(&mut command)?;
        self.server.clear("script")
    }

    /// Into pipes whose bytes nobody looks at: the JVM alone. Or a compressor reads them, on the
    /// processors that the JVM leaves it.
    fn drain(&self, jvm: &str, is_compressed: bool) -> Result<()> {
        let path = self.folder.join("drained.hprof");
        let mut pipes = vec![path.clone()];
        let mut options = vec!["-overwrite"];
        if self.version >= 22 {
            pipes.push(self.folder.join("drained.hprof.p0"));
            options.push("-parallel=1");
        }
        let mut drains: Vec<JoinHandle<Result<Option<File>>>> = Vec::new();
        for pipe in &pipes {
            drop(std::fs::remove_file(pipe));
            quietly(Command::new("mkfifo").arg(pipe))?;
            let pipe = pipe.clone();
            drains.push(thread::spawn(move || {
                let mut source = File::open(&pipe)?;
                if is_compressed {
                    let mut zstd = Command::new("zstd");
                    zstd.args(["-2", "-T1", "-q", "-c"]).stdin(source).stdout(Stdio::null());
                    zstd.status()?;
                } else {
                    let mut buffer = vec![0; 1 << 20];
                    while source.read(&mut buffer)? > 0 {}
                }
                // The JVM's merger opens its segment once more, and would wait for a writer.
                Ok(File::options().read(true).write(true).open(&pipe).ok())
            }));
        }
        let dumped = self.dump_over(jvm, &path, &options);
        let mut kept_open = Vec::new();
        if dumped.is_ok() {
            for drain in drains {
                kept_open.push(drain.join().map_err(|_| anyhow!("a reader of the pipe is gone"))??);
            }
        }
        for pipe in &pipes {
            drop(std::fs::remove_file(pipe));
        }
        dumped
    }
}

/// Of the processors, in each turn.
#[derive(Default)]
struct Work {
    jvm: Vec<Duration>,
    agent: Vec<Duration>,
    server: Vec<Duration>,
}

impl Work {
    fn shown(self) -> String {
        let [jvm, agent, server] = [self.jvm, self.agent, self.server].map(median);
        let processors =
            thread::available_parallelism().ok().and_then(|count| u32::try_from(count.get()).ok());
        let processors = processors.unwrap_or(1);
        format!(
            "processor time: JVM {:.2} + agent {:.2} + server {:.2} s; on {processors} processors {:.2} s at best",
            jvm.as_secs_f64(),
            agent.as_secs_f64(),
            server.as_secs_f64(),
            ((jvm + agent + server) / processors).as_secs_f64(),
        )
    }
}

/// Of all threads of a process, also those that are gone (`proc_pid_stat(5)`: utime, stime).
fn processor_time(pid: u32) -> Result<Duration> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, rest) = text.rsplit_once(") ").context("no name in its stat")?;
    let ticks: Vec<u64> =
        rest.split(' ').skip(11).take(2).map(str::parse).collect::<Result<_, _>>().context("no ticks")?;
    // Always a hundredth of a second on Linux (`USER_HZ`).
    Ok(Duration::from_millis(ticks.iter().sum::<u64>() * 10))
}

/// The median by the sum of its steps.
fn by_total(mut turns: Vec<Vec<Duration>>) -> Vec<Duration> {
    turns.sort_by_key(|steps| steps.iter().sum::<Duration>());
    turns.get(turns.len() / 2).cloned().unwrap_or_default()
}

fn shown(steps: &[Duration]) -> String {
    steps.iter().map(|step| format!("{:.2}", step.as_secs_f64())).collect::<Vec<_>>().join(" + ")
}

impl Service {
    fn start(
        name: &'static str,
        prefix: String,
        config: &Path,
        version: u32,
        heap: &str,
        bookend: &Path,
    ) -> Result<Self> {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--mount-proc", "--kill-child"]);
        // All of them have the same pid inside: each needs its own sockets.
        command
            .args(["sh", "-c", "mount -t tmpfs tmpfs /tmp && mount -t tmpfs tmpfs /run && exec \"$@\"", "sh"])
            .arg(bookend)
            .arg("run");
        command.arg("--config").arg(config).arg("--").arg(java::home(version)?.join("bin/java"));
        command.args(["-Xmx4g", "-XX:+UseG1GC", "-cp"]).arg(java::classes()?);
        command.args(["SickService", "--port=0", "--bind=127.0.0.1"]).arg(format!("--heap={heap}"));
        command.env("AWS_ACCESS_KEY_ID", KEY).env("AWS_SECRET_ACCESS_KEY", SECRET);
        let log = config.with_extension("log");
        let output = File::create(&log)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let namespace = Namespace(command.spawn()?);
        let begun = Instant::now();
        loop {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            if said.contains("live heap") && said.contains("attached to the JVM") {
                break;
            }
            if begun.elapsed() > Duration::from_mins(2) {
                bail!("it did not start:\n{said}");
            }
            thread::park_timeout(Duration::from_millis(50));
        }
        let jvm = namespace.wait_for("SickService")?;
        let agent = namespace.wait_for("bookend")?;
        Ok(Self { name, prefix, namespace, jvm, agent })
    }

    /// From the request to the stored manifest.
    fn capture(&self, bench: &Bench, ours: &mut Ours) -> Result<()> {
        let written = || -> Result<u64> {
            Ok(field(self.jvm, "io", "write_bytes:")? + field(self.agent, "io", "write_bytes:")?)
        };
        // The peak is that of this dump.
        drop(std::fs::write(format!("/proc/{}/clear_refs", self.agent), "5"));
        let before = written()?;
        let whose = [self.jvm, self.agent, bench.server.pid()];
        let worked_before = whose.map(processor_time);
        let init = self.namespace.init()?.to_string();
        ours.times.push(Bench::timed(|| {
            let mut command = Command::new("nsenter");
            command.args(["-t", &init, "-p", "-m"]).arg(&bench.bookend).args(["dump", "all"]);
            quietly(&mut command).map(drop)
        })?);
        let [jvm, agent, server] = whose.map(processor_time);
        let [jvm_before, agent_before, server_before] = worked_before;
        ours.work.jvm.push(jvm?.saturating_sub(jvm_before?));
        ours.work.agent.push(agent?.saturating_sub(agent_before?));
        ours.work.server.push(server?.saturating_sub(server_before?));
        ours.written = ours.written.max(written()? - before);
        ours.peak = ours.peak.max(field(self.agent, "status", "VmHWM:")?);
        ours.stored = bench.server.bytes(&self.prefix)?;
        if ours.stored < 1_000_000 {
            bail!("nothing of {} is in the bucket", self.name);
        }
        bench.server.clear(&self.prefix)
    }
}
