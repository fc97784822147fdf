//! What the metrics tell of a node's devices.

use metrics::{counter, gauge};

use super::open::blocking;
use crate::inference::{
    device::DeviceInfo,
    engine::Engine,
    load::{Load, LoadWatch},
};

/// Asks the drivers, as far as there are any.
#[derive(Debug)]
pub struct Gauges {
    /// Taken along by each question, which may block.
    watches: Vec<LoadWatch>,
}

impl Gauges {
    /// Watches the devices of an engine.
    pub async fn watching(engine: Option<&Engine>) -> Self {
        let devices = engine.map(Engine::devices).unwrap_or_default();
        let open = move || {
            let ids = devices.into_iter().map(|device| device.id);
            ids.filter_map(LoadWatch::new).collect()
        };
        Self {
            watches: blocking(open).await,
        }
    }

    /// Sets the gauges of the devices.
    pub async fn record(&mut self, devices: &[DeviceInfo]) {
        for device in devices {
            let name = device.id.to_string();
            for (model, images) in &device.ceilings {
                #[expect(clippy::cast_precision_loss, reason = "images of a batch")]
                gauge!("orfeas_device_batch_images_max", "device" => name.clone(), "model" => model.to_string())
                    .set(*images as f64);
            }
            if let Some(busy) = device.busy {
                counter!("orfeas_device_busy_seconds_total", "device" => name)
                    .absolute(busy.as_secs());
            }
        }
        let watches = std::mem::take(&mut self.watches);
        if watches.is_empty() {
            return;
        }
        let ask = move || {
            let loads: Vec<Option<Load>> = watches.iter().map(LoadWatch::now).collect();
            (watches, loads)
        };
        let (watches, loads) = blocking(ask).await;
        self.watches = watches;
        for (watch, load) in self.watches.iter().zip(loads) {
            if let Some(load) = load {
                record_load(&watch.device.to_string(), load);
            }
        }
    }
}

fn record_load(device: &str, load: Load) {
    let Load {
        memory,
        own_bytes,
        utilization,
    } = load;
    let states = [
        ("total", Some(memory.total_bytes)),
        ("free", Some(memory.free_bytes)),
        ("own", own_bytes),
    ];
    for (state, bytes) in states {
        if let Some(bytes) = bytes {
            #[expect(clippy::cast_precision_loss, reason = "a gauge")]
            gauge!("orfeas_device_memory_bytes", "device" => device.to_owned(), "state" => state)
                .set(bytes as f64);
        }
    }
    if let Some(utilization) = utilization {
        gauge!("orfeas_device_utilization_ratio", "device" => device.to_owned()).set(utilization);
    }
}
