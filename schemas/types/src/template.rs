//! Base images, which are the operator's. Key: [`crate::names::template_definition_key`].

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::Digests;
use crate::environment::{MAX_DEFINITION_BYTES, check_salt};
use crate::field_error::{self, FieldError, in_range};
use crate::source::ArchiveSource;
use crate::step::{Step, check_steps};
use crate::tag::schema_tag;
use crate::text::{TextError, quoted, text_type};
use crate::token::Token;

/// Most packages named by a template.
const MAX_PACKAGES: usize = 1024;

/// Ten years.
const MAX_TTL_S: u64 = 315_360_000;

schema_tag!(
    /// `sourdough/template/v1`.
    TemplateSchema = "sourdough/template/v1"
);

text_type!(
    /// The name of a Debian package: lower-case letters, digits, `+ - .`, starting with a letter or a digit.
    PackageName, check: check_package,
    schema: {"type": "string", "pattern": "^[a-z0-9][a-z0-9+.-]+$", "maxLength": 128}
);

text_type!(
    /// A repository of an OCI registry: the registry's host, perhaps a port, and the repository's path, without a tag or digest.
    ImageName, check: check_image,
    schema: {"type": "string", "pattern": "^[a-z0-9.-]+(:[0-9]{1,5})?(/[a-z0-9._-]+)+$", "maxLength": 255}
);

/// Kernel, root filesystem and tools, booted once and frozen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// The version of this definition.
    #[serde(default)]
    pub schema: TemplateSchema,
    /// Its name.
    pub name: Token,
    /// Where the root filesystem comes from.
    pub base: Base,
    /// Commands that are run in the booted guest, as root, before it is frozen.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub setup: Vec<Step>,
    /// The size of the machine.
    #[serde(default)]
    pub resources: Resources,
    /// Which certificate authorities the guest trusts besides its packages'. Default `host`.
    #[serde(default)]
    pub ca: Ca,
    /// Seconds after which it is baked again, to take in security updates: by the bakery, when an environment next needs it. Not in
    /// the snapshot key. Default one week.
    #[serde(default = "default_refresh_s")]
    #[schemars(range(min = 60, max = 315_360_000))]
    pub refresh_s: u64,
    /// Seconds for which its snapshot may be forked: the bakery derives no environment from an older one, and bakes it again first. So
    /// the smaller of this and `refresh_s` counts. Not in the snapshot key. Default 30 days.
    #[serde(default = "default_ttl_s")]
    #[schemars(range(min = 60, max = 315_360_000))]
    pub ttl_s: u64,
    /// Any text; another one gives another key.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub salt: String,
}

/// Where a root filesystem comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Base {
    /// Debian packages, from the mirrors that the bakery's host is configured with.
    Debian(Debian),
    /// An OCI image, from a registry that the bakery's operator allows.
    Oci(Oci),
    /// A root filesystem as a tar archive: `.tar`, `.tar.zst` or `.tar.gz`.
    Archive(ArchiveSource),
}

/// An OCI image, pinned by the digest of its manifest or of an index that has one for `linux/amd64`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Oci {
    /// The registry and the repository, without a tag: `registry.example.com/team/image`.
    pub image: ImageName,
    /// What the manifest's or index's bytes hash to.
    pub digest: Digests,
}

/// A minimal Debian and the packages named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Debian {
    /// The release, as `bookworm`.
    pub suite: Token,
    /// Packages beside the minimum.
    #[serde(default)]
    #[schemars(length(max = 1024))]
    pub packages: Vec<PackageName>,
}

/// The size of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Resources {
    /// Virtual processors. Default 1.
    #[schemars(range(min = 1, max = 64))]
    pub vcpu: u32,
    /// Memory. Default 1 GiB: enough for `npm ci` of an ordinary project.
    #[schemars(range(min = 128, max = 1_048_576))]
    pub memory_mib: u32,
    /// Disk, sparse. Default 4 GiB.
    #[schemars(range(min = 256, max = 1_048_576))]
    pub disk_mib: u32,
}

/// Which certificate authorities a guest trusts besides its packages'.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ca {
    /// Those of the bakery's host, which may stand behind a proxy of its own.
    #[default]
    Host,
    /// No others.
    None,
}

impl Template {
    /// Reads a definition and checks every limit that the fields document.
    pub fn parse(body: &[u8]) -> Result<Self, FieldError> {
        let template: Self = field_error::parse(body, MAX_DEFINITION_BYTES)?;
        template.check()?;
        Ok(template)
    }

    /// Checks what the types of the fields leave open.
    pub fn check(&self) -> Result<(), FieldError> {
        self.base.check()?;
        check_steps("setup", &self.setup)?;
        in_range("resources.vcpu", self.resources.vcpu.into(), 1, 64)?;
        in_range(
            "resources.memory_mib",
            self.resources.memory_mib.into(),
            128,
            1 << 20,
        )?;
        in_range(
            "resources.disk_mib",
            self.resources.disk_mib.into(),
            256,
            1 << 20,
        )?;
        in_range("refresh_s", self.refresh_s, 60, MAX_TTL_S)?;
        in_range("ttl_s", self.ttl_s, 60, MAX_TTL_S)?;
        check_salt(&self.salt)
    }
}

impl Base {
    fn check(&self) -> Result<(), FieldError> {
        match self {
            Self::Debian(debian) if debian.packages.len() > MAX_PACKAGES => {
                let problem = format!(
                    "must be at most {MAX_PACKAGES} packages, is {}",
                    debian.packages.len()
                );
                Err(FieldError::new("base.debian.packages", problem))
            }
            Self::Debian(_) | Self::Oci(_) | Self::Archive(_) => Ok(()),
        }
    }
}

impl Default for Resources {
    fn default() -> Self {
        Self {
            vcpu: 1,
            memory_mib: 1024,
            disk_mib: 4096,
        }
    }
}

fn check_image(text: &str) -> Result<(), TextError> {
    let (registry, repository) = text.split_once('/').unwrap_or((text, ""));
    let name = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-')
    };
    let part = |part: &str| {
        part.bytes().all(name)
            && part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && part.ends_with(|c: char| c.is_ascii_alphanumeric())
    };
    let host = registry.split_once(':').map_or(registry, |(host, port)| {
        // An empty host is no host.
        if port.parse::<u16>().is_ok_and(|port| port > 0) {
            host
        } else {
            ""
        }
    });
    if text.len() > 255 || !part(host) || !repository.split('/').all(part) {
        return Err(TextError::new(format!(
            "must be <registry>/<repository> without a tag, is {}",
            quoted(text)
        )));
    }
    Ok(())
}

fn check_package(text: &str) -> Result<(), TextError> {
    let good = text.bytes().all(|byte| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.')
    });
    if !good
        || !(2..=128).contains(&text.len())
        || !text.starts_with(|c: char| c.is_ascii_alphanumeric())
    {
        return Err(TextError::new(format!(
            "must be the name of a Debian package, is {}",
            quoted(text)
        )));
    }
    Ok(())
}

fn default_refresh_s() -> u64 {
    604_800
}

fn default_ttl_s() -> u64 {
    2_592_000
}
