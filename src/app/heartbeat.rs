//! The node's sign of life, and the queue's depth for the metrics.

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
        #[expect(clippy::cast_precision_loss, reason = "counts of rows, far below 2^52")]
        match database.queue_state().await {
            Ok(state) => {
                metrics::gauge!("orfeas_queue_conversions", "status" => "queued")
                    .set(state.queued() as f64);
                metrics::gauge!("orfeas_queue_conversions", "status" => "running")
                    .set(state.running as f64);
                for (priority, waiting) in
                    [("agent", state.queued_agent), ("user", state.queued_user)]
                {
                    metrics::gauge!("orfeas_queue_waiting_conversions", "priority" => priority)
                        .set(waiting as f64);
                }
            }
            Err(error) => warn!(cause = %chain(&error), "Could not read the queue's depth"),
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
