//! The two small message types and their wire form: a tag and numbers, native
//! byte order (both ends are the same binary on the same machine).

use crate::sys::process::{Pid, Status};
use crate::units::{Moment, Signal};

/// No message is longer. Bytes.
pub const MAXIMUM_SIZE: usize = 1 + 4 * 8;

/// What the supervisor tells the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact {
    /// The main process runs, since then: an agent that is started again hears it too.
    MainStarted { pid: Pid, since: Moment },
    /// The main process is gone; `asked` if we sent it a stop signal.
    MainEnded { status: Status, asked: bool },
    /// A stop is under way: what needs the JVM must be done by `evidence_until`,
    /// everything by `deadline`.
    StopRequested { signal: Signal, begun: Moment, evidence_until: Moment, deadline: Moment },
    /// The main process was asked to end, does not, and is killed then.
    KillComes { at: Moment },
    /// A helper process runs, by its number in the plan; an agent that is started again hears of
    /// those that run.
    HelperStarted { index: usize, pid: Pid, since: Moment },
    /// It no longer does.
    HelperEnded { index: usize, status: Status },
    /// End by then; what is not done will not be.
    Finish { by: Moment },
}

/// What the agent asks of the supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// It listens.
    Ready,
    /// It needs the main process no longer: the stop may go on.
    Captured,
    /// The same, with nothing captured; its own log says why.
    NotCaptured,
    /// Everything about the current event is in the store.
    Stored,
    /// A stop now would set off a rule, or an event is being captured.
    Armed,
    /// It would not: the service is well.
    Disarmed,
    /// It is not stuck.
    Alive,
    /// Somebody wants the container kept until then, as far as deadlines allow.
    Hold { until: Moment },
    /// Nobody does any longer.
    Release,
    /// The main process is sick, and its evidence is captured: it is to be started again.
    RestartMain,
    /// The service is healthy; said each time it becomes so.
    Healthy,
    /// An operator wants that of a helper process, by its number in the plan.
    Helper { index: usize, order: Order },
}

/// What an operator may want of a helper process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Restart,
    Stop,
    Start,
}

impl Order {
    const ALL: [Self; 3] = [Self::Restart, Self::Stop, Self::Start];

    /// The verb, on the command line as on the control socket.
    pub fn word(self) -> &'static str {
        match self {
            Self::Restart => "restart",
            Self::Stop => "stop",
            Self::Start => "start",
        }
    }

    /// By its verb.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|order| order.word() == word)
    }
}

impl Fact {
    /// The wire form, in `buffer`.
    pub fn encode(self, buffer: &mut [u8; MAXIMUM_SIZE]) -> &[u8] {
        let (tag, numbers) = match self {
            Self::MainStarted { pid, since } => (1, [number(pid.number()), since.nanoseconds(), 0, 0]),
            Self::MainEnded { status, asked } => {
                let [code, signal, core] = numbers(status);
                (2, [code, signal, core, u64::from(asked)])
            }
            Self::HelperStarted { index, pid, since } => {
                (6, [index as u64, number(pid.number()), since.nanoseconds(), 0])
            }
            Self::HelperEnded { index, status } => {
                let [code, signal, core] = numbers(status);
                (7, [code, signal, core, index as u64])
            }
            Self::StopRequested { signal, begun, evidence_until, deadline } => (
                3,
                [
                    number(signal.number()),
                    begun.nanoseconds(),
                    evidence_until.nanoseconds(),
                    deadline.nanoseconds(),
                ],
            ),
            Self::Finish { by } => (4, [by.nanoseconds(), 0, 0, 0]),
            Self::KillComes { at } => (5, [at.nanoseconds(), 0, 0, 0]),
        };
        write(buffer, tag, numbers)
    }

    /// Reads the wire form; `None` for what no `Fact` looks like.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (tag, [a, b, c, d]) = read(bytes)?;
        Some(match tag {
            1 => Self::MainStarted {
                pid: Pid::from_number(i32::try_from(a).ok()?)?,
                since: Moment::from_nanoseconds(b),
            },
            2 => Self::MainEnded { status: status([a, b, c])?, asked: d != 0 },
            3 => Self::StopRequested {
                signal: signal(a)?,
                begun: Moment::from_nanoseconds(b),
                evidence_until: Moment::from_nanoseconds(c),
                deadline: Moment::from_nanoseconds(d),
            },
            4 => Self::Finish { by: Moment::from_nanoseconds(a) },
            5 => Self::KillComes { at: Moment::from_nanoseconds(a) },
            6 => Self::HelperStarted {
                index: usize::try_from(a).ok()?,
                pid: Pid::from_number(i32::try_from(b).ok()?)?,
                since: Moment::from_nanoseconds(c),
            },
            7 => Self::HelperEnded { index: usize::try_from(d).ok()?, status: status([a, b, c])? },
            _ => return None,
        })
    }
}

impl Deed {
    /// The wire form.
    pub fn encode(self, buffer: &mut [u8; MAXIMUM_SIZE]) -> &[u8] {
        let (tag, number) = match self {
            Self::Ready => (1, 0),
            Self::Captured => (2, 0),
            Self::Stored => (3, 0),
            Self::NotCaptured => (4, 0),
            Self::Armed => (5, 0),
            Self::Disarmed => (6, 0),
            Self::Alive => (7, 0),
            Self::Hold { until } => (8, until.nanoseconds()),
            Self::Release => (9, 0),
            Self::RestartMain => (10, 0),
            Self::Healthy => (11, 0),
            Self::Helper { index, order: Order::Restart } => (12, index as u64),
            Self::Helper { index, order: Order::Stop } => (13, index as u64),
            Self::Helper { index, order: Order::Start } => (14, index as u64),
        };
        write(buffer, tag, [number, 0, 0, 0])
    }

    /// Reads the wire form; `None` for what no `Deed` looks like.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (tag, [number, ..]) = read(bytes)?;
        let helper = |order| Some(Self::Helper { index: usize::try_from(number).ok()?, order });
        Some(match tag {
            1 => Self::Ready,
            2 => Self::Captured,
            3 => Self::Stored,
            4 => Self::NotCaptured,
            5 => Self::Armed,
            6 => Self::Disarmed,
            7 => Self::Alive,
            8 => Self::Hold { until: Moment::from_nanoseconds(number) },
            9 => Self::Release,
            10 => Self::RestartMain,
            11 => Self::Healthy,
            12 => helper(Order::Restart)?,
            13 => helper(Order::Stop)?,
            14 => helper(Order::Start)?,
            _ => return None,
        })
    }
}

fn number(value: i32) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

fn signal(value: u64) -> Option<Signal> {
    Signal::from_number(i32::try_from(value).ok()?)
}

/// How a process ended: its code; the signal instead, and whether a core was dumped.
fn numbers(status: Status) -> [u64; 3] {
    match status {
        Status::Exited(code) => [u64::from(code), 0, 0],
        Status::Signaled { signal, core_dumped } => [0, number(signal.number()), u64::from(core_dumped)],
    }
}

fn status([code, number, core]: [u64; 3]) -> Option<Status> {
    Some(match number {
        0 => Status::Exited(u8::try_from(code).ok()?),
        _ => Status::Signaled { signal: signal(number)?, core_dumped: core != 0 },
    })
}

fn write(buffer: &mut [u8; MAXIMUM_SIZE], tag: u8, numbers: [u64; 4]) -> &[u8] {
    let (head, tail) = buffer.split_at_mut(1);
    head.fill(tag);
    for (chunk, value) in tail.chunks_exact_mut(8).zip(numbers) {
        chunk.copy_from_slice(&value.to_ne_bytes());
    }
    buffer
}

fn read(bytes: &[u8]) -> Option<(u8, [u64; 4])> {
    let (tag, tail) = bytes.split_first()?;
    let mut numbers = [0; 4];
    if tail.len() != 32 {
        return None;
    }
    for (value, chunk) in numbers.iter_mut().zip(tail.chunks_exact(8)) {
        *value = u64::from_ne_bytes(chunk.try_into().ok()?);
    }
    Some((*tag, numbers))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_message_reads_back() {
        let moment = Moment::from_nanoseconds;
        let facts = [
            Fact::MainStarted {
                pid: Pid::from_number(7).expect("positive"),
                since: Moment::from_nanoseconds(5),
            },
            Fact::MainEnded { status: Status::Exited(143), asked: true },
            Fact::HelperStarted {
                index: 2,
                pid: Pid::from_number(8).expect("positive"),
                since: Moment::from_nanoseconds(6),
            },
            Fact::HelperEnded { index: 3, status: Status::Exited(1) },
            Fact::HelperEnded {
                index: 0,
                status: Status::Signaled { signal: Signal::KILL, core_dumped: false },
            },
            Fact::MainEnded {
                status: Status::Signaled { signal: Signal::SEGV, core_dumped: true },
                asked: false,
            },
            Fact::StopRequested {
                signal: Signal::TERM,
                begun: moment(1),
                evidence_until: moment(u64::MAX),
                deadline: moment(3),
            },
            Fact::Finish { by: moment(9) },
        ];
        for fact in facts {
            assert_eq!(Fact::decode(fact.encode(&mut [0; MAXIMUM_SIZE])), Some(fact));
        }
        for deed in [
            Deed::Ready,
            Deed::Captured,
            Deed::NotCaptured,
            Deed::Stored,
            Deed::Armed,
            Deed::Disarmed,
            Deed::Alive,
            Deed::Hold { until: moment(7) },
            Deed::Release,
            Deed::RestartMain,
            Deed::Healthy,
            Deed::Helper { index: 3, order: Order::Restart },
            Deed::Helper { index: 0, order: Order::Stop },
            Deed::Helper { index: 1, order: Order::Start },
        ] {
            assert_eq!(Deed::decode(deed.encode(&mut [0; MAXIMUM_SIZE])), Some(deed));
        }
    }

    proptest! {
        #[test]
        fn nonsense_never_panics(bytes: Vec<u8>) {
            let _fact = Fact::decode(&bytes);
            let _deed = Deed::decode(&bytes);
        }
    }
}
