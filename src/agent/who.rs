//! Whose evidence it is: what the plan knows, and what the platform has told since.

use super::task::EcsTask;
use crate::plan::{Plan, file_name};

/// Service, task, and what else is known of them.
#[derive(Clone, Debug)]
pub(super) struct Who {
    pub(super) service: String,
    pub(super) task: String,
    pub(super) image_digest: Option<String>,
    pub(super) details: Vec<(&'static str, String)>,
}

impl Who {
    pub(super) fn of(plan: &Plan) -> Self {
        Self {
            service: plan.service.clone(),
            task: plan.task.clone(),
            image_digest: plan.identity.image_digest.clone(),
            details: plan.identity.details.clone(),
        }
    }

    /// What ECS says, over the host name; never over what was configured.
    pub(super) fn learn(&mut self, plan: &Plan, task: EcsTask) {
        if let (Some(service), false) = (task.service, plan.service_is_configured) {
            self.service = file_name(&service);
        }
        if let (Some(id), false) = (task.id, plan.task_is_configured) {
            self.task = file_name(&id);
        }
        self.image_digest = task.image_digest;
        self.details = task.details;
    }
}
