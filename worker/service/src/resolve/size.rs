//! Whether a slot is large enough for the guests of a template. All workers of a pool have slots of one size, so what is too large for this
//! one is too large for all.

use schemas::environment::Environment;
use schemas::names::template_definition_key;
use schemas::reason::Reason;
use schemas::{Template, Token};
use store::KeyParts;

use crate::config::Config;
use crate::services::Services;
use crate::verdict::Verdict;

/// What a guest needs, or a slot has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    vcpu: u32,
    memory_mib: u32,
    disk_mib: u32,
}

impl Size {
    /// Of the guests of a template that is baked.
    pub(super) fn of_baked(parts: &KeyParts) -> Self {
        Self {
            vcpu: parts.vcpu,
            memory_mib: parts.memory_mib,
            disk_mib: parts.disk_mib,
        }
    }

    /// Of the guests of a template that is not, as its definition says; none where that cannot be had, which a bakery tells better.
    pub(super) async fn of_defined(services: &Services, template: &Token) -> Option<Self> {
        let key = template_definition_key(template);
        let body = services.environments.get(key).await.ok()??;
        let resources = Template::parse(&body).ok()?.resources;
        Some(Self {
            vcpu: resources.vcpu,
            memory_mib: resources.memory_mib,
            disk_mib: resources.disk_mib,
        })
    }

    fn of_slot(config: &Config) -> Self {
        Self {
            vcpu: config.slot_vcpu,
            memory_mib: config.slot_memory_mib,
            disk_mib: config.slot_disk_mib,
        }
    }

    /// Says what a slot has too little of.
    pub(super) fn fits(self, config: &Config, environment: &Environment) -> Result<(), Verdict> {
        let slot = Self::of_slot(config);
        let table = [
            ("processors", self.vcpu, slot.vcpu),
            ("MiB of memory", self.memory_mib, slot.memory_mib),
            ("MiB of disk", self.disk_mib, slot.disk_mib),
        ];
        let Some((what, needs, has)) = table.into_iter().find(|(_, needs, has)| needs > has) else {
            return Ok(());
        };
        let Environment { name, template, .. } = environment;
        let message = format!(
            "template {template} of environment {name} needs {needs} {what}, and a slot of pool {} has {has}",
            config.pool
        );
        Err(Verdict::new(Reason::NoCapacity, message))
    }
}
