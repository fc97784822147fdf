//! The node's sign of life, and its devices' figures.

use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    db::{
        Database,
        entities::node::{Device, Devices},
        nodes::{HEARTBEAT, NodeInfo},
    },
    error_chain::chain,
    inference::{
        device::{DeviceId, DeviceInfo},
        engine::Engine,
    },
};

use super::devices::Gauges;

/// Shows that the node lives until `stop`.
pub async fn beat(
    database: Database,
    node: NodeInfo,
    engine: Option<Engine>,
    stop: CancellationToken,
) {
    metrics::gauge!("orfeas_build_info", "version" => node.version, "role" => node.role).set(1.0);
    let mut gauges = Gauges::watching(engine.as_ref()).await;
    let mut tick = tokio::time::interval(HEARTBEAT);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        let found = engine.as_ref().map(Engine::devices).unwrap_or_default();
        gauges.record(&found).await;
        let devices = Devices(found.into_iter().map(described).collect());
        let lost = devices.0.iter().filter(|device| device.lost.is_some());
        #[expect(clippy::cast_precision_loss, reason = "a few devices")]
        metrics::gauge!("orfeas_devices_lost").set(lost.count() as f64);
        if let Err(error) = database.heartbeat(&node, &devices).await {
            warn!(cause = %chain(&error), "Could not show that this node lives; trying again");
        }
    }
}

fn described(device: DeviceInfo) -> Device {
    Device {
        name: device.name,
        kind: match device.id {
            DeviceId::Cpu => "cpu".into(),
            DeviceId::Cuda(_) => "cuda".into(),
        },
        memory_total_bytes: device.memory_total_bytes,
        memory_free_bytes: device.memory_free_bytes,
        batch_images_max: u32::try_from(device.batch_images_max).unwrap_or(u32::MAX),
        lost: device.lost,
    }
}

/// The machine's name, as operators know it.
#[must_use]
pub fn host_name() -> String {
    let name = rustix::system::uname();
    name.nodename().to_string_lossy().into_owned()
}
