//! Which devices a setting means on this machine.

use tracing::info;

use super::super::{
    cuda,
    device::{DeviceChoice, DeviceId},
    error::EngineError,
};

/// The devices that a choice means here. Opens libtorch's CUDA half where one may be needed, so it
/// must come before anything touches a tensor.
///
/// # Errors
/// [`EngineError::NoDevice`] if a CUDA device is asked for that is not there.
pub fn choose(choice: &DeviceChoice) -> Result<Vec<DeviceId>, EngineError> {
    let refuse = |reason: String| EngineError::NoDevice {
        wanted: choice.to_string(),
        reason,
    };
    let every = |count: usize| (0..count).map(DeviceId::Cuda).collect::<Vec<_>>();
    match choice {
        DeviceChoice::Cpu => Ok(vec![DeviceId::Cpu]),
        DeviceChoice::Auto => match cuda::driver().and_then(|_| usable()) {
            Ok(count) => Ok(every(count)),
            Err(reason) => {
                info!(reason, "No GPU is used; models run on the CPU");
                Ok(vec![DeviceId::Cpu])
            }
        },
        DeviceChoice::Cuda => usable().map(every).map_err(refuse),
        DeviceChoice::CudaList(indices) => {
            let count = usable().map_err(refuse)?;
            match indices.iter().find(|&&index| index >= count) {
                Some(index) => Err(refuse(format!(
                    "there is no device {index}; libtorch sees {count}"
                ))),
                None => Ok(indices.iter().copied().map(DeviceId::Cuda).collect()),
            }
        }
    }
}

/// How many CUDA devices libtorch can use, or what to do that it can.
fn usable() -> Result<usize, String> {
    cuda::open().map_err(|reason| {
        format!("{reason}; the folder of libtorch 2.11 with its CUDA libraries must be where the loader looks")
    })?;
    match cuda::devices_usable() {
        0 => Err(
            "libtorch found no CUDA device; does `nvidia-smi` list one, with a driver for CUDA 13?"
                .into(),
        ),
        count => Ok(count),
    }
}
