//! How busy a card is, by its driver, for those who watch the node.

use super::device::DeviceId;
use super::memory::MemoryNow;

/// A card at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    pub memory: MemoryNow,
    /// Of this process; `None` where the driver does not tell, as in some containers.
    pub own_bytes: Option<u64>,
    /// The share of the last moments in which a kernel ran, of any process: 0 to 1.
    pub utilization: Option<f64>,
}

/// Asks the driver about one device.
#[derive(Debug)]
pub struct LoadWatch {
    pub device: DeviceId,
    #[cfg(feature = "torch")]
    card: super::cuda::MemoryWatch,
}

impl LoadWatch {
    /// Watches a device; `None` for the processor, and where there is no driver to ask.
    #[cfg(feature = "torch")]
    #[must_use]
    pub fn new(device: DeviceId) -> Option<Self> {
        let DeviceId::Cuda(ordinal) = device else {
            return None;
        };
        let card = super::cuda::MemoryWatch::new(ordinal)?;
        Some(Self { device, card })
    }

    /// Without libtorch there is no device.
    #[cfg(not(feature = "torch"))]
    #[must_use]
    pub fn new(_device: DeviceId) -> Option<Self> {
        None
    }

    /// The card now; `None` when the driver does not answer. It may block for milliseconds.
    #[cfg(feature = "torch")]
    #[must_use]
    pub fn now(&self) -> Option<Load> {
        Some(Load {
            memory: self.card.now()?,
            own_bytes: self.card.own_bytes(),
            utilization: self.card.utilization(),
        })
    }

    /// Without libtorch there is no device.
    #[cfg(not(feature = "torch"))]
    #[must_use]
    pub fn now(&self) -> Option<Load> {
        None
    }
}
