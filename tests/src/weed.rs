//! How `SeaweedFS` is told where to listen and what to keep.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::ports;

/// `SeaweedFS` is a master, a volume server, a filer and an S3 gateway, each with an HTTP and a gRPC port. Two copies on one
/// machine clash unless all of them are chosen.
#[derive(Debug)]
pub(crate) struct Ports {
    pub(crate) s3: u16,
    s3_grpc: u16,
    master: u16,
    master_grpc: u16,
    volume: u16,
    volume_grpc: u16,
    filer: u16,
    filer_grpc: u16,
}

impl Ports {
    /// Free ports, with `s3` for the gateway if it is given.
    pub(crate) fn choose(s3: Option<u16>) -> Result<Self> {
        let [
            free,
            s3_grpc,
            master,
            master_grpc,
            volume,
            volume_grpc,
            filer,
            filer_grpc,
        ] = ports::free()?;
        let s3 = s3.unwrap_or(free);
        Ok(Self {
            s3,
            s3_grpc,
            master,
            master_grpc,
            volume,
            volume_grpc,
            filer,
            filer_grpc,
        })
    }

    /// The arguments of `weed`.
    pub(crate) fn arguments(&self, data: &Path, identities: &Path) -> Vec<String> {
        vec![
            "-logtostderr=true".to_owned(),
            "server".to_owned(),
            format!("-dir={}", data.display()),
            "-ip=127.0.0.1".to_owned(),
            // The default is every interface.
            "-ip.bind=127.0.0.1".to_owned(),
            format!("-master.port={}", self.master),
            format!("-master.port.grpc={}", self.master_grpc),
            // With the defaults, 8 volumes of 30 GB, the third bucket finds no volume.
            "-master.volumeSizeLimitMB=1024".to_owned(),
            "-volume.max=128".to_owned(),
            "-master.telemetry=false".to_owned(),
            format!("-volume.port={}", self.volume),
            format!("-volume.port.grpc={}", self.volume_grpc),
            "-filer".to_owned(),
            format!("-filer.port={}", self.filer),
            format!("-filer.port.grpc={}", self.filer_grpc),
            "-s3".to_owned(),
            format!("-s3.port={}", self.s3),
            format!("-s3.port.grpc={}", self.s3_grpc),
            // 0 turns them off.
            "-s3.port.iceberg=0".to_owned(),
            "-s3.port.lance=0".to_owned(),
            format!("-s3.config={}", identities.display()),
        ]
    }

    /// The sockets that it makes beside its ports, always in `/tmp`.
    pub(crate) fn sockets(&self) -> Vec<PathBuf> {
        [
            format!("s3-{}", self.s3),
            format!("s3-grpc-{}", self.s3_grpc),
            format!("master-grpc-{}", self.master_grpc),
            format!("volume-grpc-{}", self.volume_grpc),
            format!("filer-{}", self.filer),
            format!("filer-grpc-{}", self.filer_grpc),
        ]
        .map(|name| format!("/tmp/seaweedfs-{name}.sock").into())
        .into()
    }
}

/// Removes what the master remembers of its elections, `m<port>`. It learns the volumes from the volume server, while an old
/// record makes it wait 20 s for voters that are gone.
pub(crate) fn forget_elections(data: &Path) -> Result<()> {
    for entry in fs::read_dir(data).with_context(|| format!("list {}", data.display()))? {
        let path = entry
            .with_context(|| format!("list {}", data.display()))?
            .path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_record = name
            .strip_prefix('m')
            .is_some_and(|port| port.parse::<u16>().is_ok());
        if is_record {
            fs::remove_dir_all(&path).with_context(|| format!("remove {}", path.display()))?;
        }
    }
    Ok(())
}
