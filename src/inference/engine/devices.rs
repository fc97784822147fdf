//! How the devices of a running engine stand.

use std::sync::Arc;

use super::{
    super::{catalog::ServedModel, device::DeviceInfo, queue::DeviceQueue},
    Engine,
};

impl Engine {
    /// The devices as they stand now, each with what all of its lanes do. It is lost as soon as one of them is.
    #[must_use]
    pub fn devices(&self) -> Vec<DeviceInfo> {
        let state = self.inner.queue.lock();
        let model = self.inner.catalog.default_index();
        let iterates = self.inner.catalog.served()[model]
            .manifest
            .sampling()
            .is_some();
        // As many conversions as a pass takes must be here for it to be full, and most passes of such a model are steps.
        let batch_max = |at| match iterates {
            true => state.images_max(at, model).max(state.rows_max(at, model)),
            false => state.images_max(at, model),
        };
        let served = self.inner.catalog.served();
        let ceilings = |at| {
            let models = served.iter().enumerate();
            let ceiling = |(model, served): (usize, &ServedModel)| {
                (Arc::clone(&served.name), state.images_max(at, model))
            };
            models.map(ceiling).collect()
        };
        let info = |(at, queue): (usize, &DeviceQueue)| DeviceInfo {
            id: queue.id,
            name: queue.name.clone(),
            memory_total_bytes: queue.memory.map(|memory| memory.total_bytes),
            memory_free_bytes: queue.memory.map(|memory| memory.free_bytes),
            batch_images_max: batch_max(at),
            ceilings: ceilings(at),
            conversions: queue.codes,
            busy: queue.busy,
            lost: queue.lost.clone(),
        };
        let mut devices: Vec<DeviceInfo> = Vec::new();
        for lane in state.devices.iter().enumerate().map(info) {
            match devices.last_mut() {
                Some(device) if device.id == lane.id => {
                    device.conversions += lane.conversions;
                    device.lost = device.lost.take().or(lane.lost);
                }
                _ => devices.push(lane),
            }
        }
        devices
    }

    /// Conversions that are worth preparing at a time: one batch under way and one ahead, for each device that is left.
    #[must_use]
    pub fn images_ahead(&self) -> usize {
        self.devices()
            .iter()
            .filter(|device| device.lost.is_none())
            .map(|device| 2 * device.batch_images_max)
            .sum::<usize>()
            .max(1)
    }
}
