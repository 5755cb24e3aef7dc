//! Whether a stop's evidence will have the time it needs: said at the start, when somebody can
//! still change it. Pure.
//!
//! Only where nobody configured the grace period: who did has thought about it, and the manifest
//! of an event says what did not fit.

use super::budget::{Kind, Rates, Size};
use crate::config::{Capture, Trigger};
use crate::plan::{Evidence, StopPlan};
use crate::units::{ByteSize, format_duration};
use std::time::Duration;

/// What there is to worry about, if anything. `heap`: bytes that the JVM's heap may grow to.
pub(super) fn of(stop: &StopPlan, evidence: &Evidence, stops_the_sick: bool, heap: u64) -> Option<String> {
    if stop.grace_is_known {
        return None;
    }
    let (rule, kind) = evidence.rules.iter().find_map(|rule| {
        // What an unhealthy service leaves is cut short by its stop, where one follows by itself.
        let is_cut = match rule.on {
            Trigger::Stop => true,
            Trigger::Failing | Trigger::Unhealthy => stops_the_sick,
            _ => false,
        };
        let kind = rule.capture.iter().find_map(|capture| match capture {
            Capture::Heap { live: true } => Some(Kind::LiveHeap),
            Capture::Heap { live: false } => Some(Kind::Heap),
            _ => None,
        });
        is_cut.then_some(&rule.name).zip(kind)
    })?;
    let kept = stop.margin.saturating_add(stop.closing).saturating_add(stop.reserve);
    let window = stop.grace.saturating_sub(kept);
    let needs = |heap: u64| Rates::default().estimate(kind, Size { heap: Some(heap), threads: None });
    if needs(heap) <= window {
        return None;
    }
    Some(format!(
        "a stop may leave no time for the heap dump of rule `{rule}`: the heap may grow to {}, whose dump takes \
         up to {} here, and of a grace period of {}, {}, {} are for evidence. Set [stop] grace to what \
         your orchestrator really gives, or raise both",
        ByteSize(heap),
        seconds(needs(heap)),
        format_duration(stop.grace),
        stop.grace_source,
        format_duration(Duration::from_secs(window.as_secs())),
    ))
}

/// Up to whole seconds: it is a guess.
fn seconds(span: Duration) -> String {
    format_duration(Duration::from_secs(span.as_secs().saturating_add(u64::from(span.subsec_millis() > 0))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Platform;
    use crate::plan::fixture::plan_on;

    const GIGABYTE: u64 = 1 << 30;

    fn worry(platform: Platform, settings: &str, heap: u64) -> Option<String> {
        let plan = plan_on(platform, &[], &format!("store.url=file:///store\n{settings}"));
        of(&plan.stop, plan.evidence.as_ref().expect("rules"), platform.stops_the_sick(), heap)
    }

    fn rule(on: &str) -> String {
        format!("rule.0.name=last\nrule.0.on={on}\nrule.0.capture=[\"threads\",\"heap\"]\n")
    }

    #[test]
    fn a_large_heap_and_a_grace_that_nobody_set() {
        let said = worry(Platform::EcsFargate, &rule("stop"), 8 * GIGABYTE).expect("a worry");
        assert!(said.contains("rule `last`") && said.contains("grow to 8 GiB"), "{said}");
        assert!(said.contains("30s, the default of ECS on Fargate, 19s are for evidence"), "{said}");
        assert_eq!(worry(Platform::EcsFargate, &rule("stop"), GIGABYTE / 2), None);
        let set = rule("stop") + "stop.grace=30s\n";
        assert_eq!(worry(Platform::EcsFargate, &set, 8 * GIGABYTE), None, "whoever set it knows it");
    }

    #[test]
    fn a_sick_service_is_stopped_on_some_platforms_alone() {
        let sick = rule("unhealthy") + "health.tcp=127.0.0.1:1\n";
        assert!(worry(Platform::Kubernetes, &sick, 8 * GIGABYTE).is_some());
        assert_eq!(worry(Platform::Docker, &sick, 8 * GIGABYTE), None);
        assert_eq!(worry(Platform::Kubernetes, &rule("oom"), 8 * GIGABYTE), None);
    }
}
