//! Loading a model's file, and the settings of libtorch around it.

use std::{num::NonZeroUsize, sync::Once};

use tch::{CModule, Device, Kind, TchError, jit};

use super::{
    super::{
        catalog::ServedModel,
        manifest::{DevicePlan, Dtype, ModelError},
    },
    message::reason_of,
};

/// More threads than this only wait for one another.
const THREADS_MAX: usize = 64;

/// The processor's cores that this process may use.
pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// Settings of libtorch for the calling thread and, once, for the process.
pub(super) fn prepare_threads(cpu_threads: Option<usize>) {
    static PROCESS: Once = Once::new();
    PROCESS.call_once(|| {
        // Can be set once, before libtorch has run anything between operations.
        tch::set_num_interop_threads(1);
        // The profiling executor compiles a method anew after its first calls, by the shapes it saw:
        // those calls stall, and the kernels it makes then round otherwise than the first ones did.
        jit::set_profiling_mode(false);
        jit::set_tensor_expr_fuser_enabled(false);
    });
    // By default half of the cores, the others being for decoding and meshing: OpenMP's threads spin
    // while they wait for one another, so a pass that competes for its cores is worse than slow. On
    // two cores shared with builds, one thread encoded in 0.5 s, two threads in 2 to 7 s.
    let threads = cpu_threads.unwrap_or(cores() / 2).clamp(1, THREADS_MAX);
    // OpenMP keeps this number for each thread that starts parallel work.
    tch::set_num_threads(threads as i32);
}

/// A model on a device, in the number format that its plan says.
///
/// # Errors
/// [`ModelError::Load`].
pub(super) fn load(
    served: &ServedModel,
    plan: &DevicePlan,
    device: Device,
) -> Result<CModule, ModelError> {
    let refuse = |error: TchError| ModelError::Load {
        reason: reason_of(&error.to_string()),
    };
    let mut module = CModule::load_on_device(&served.file, device).map_err(refuse)?;
    module.f_set_eval().map_err(refuse)?;
    let kind = match plan.dtype {
        Dtype::Float32 => Kind::Float,
        Dtype::Half => Kind::Half,
        Dtype::Bfloat16 => Kind::BFloat16,
    };
    // `to` has no fallible form; only floating-point parameters and buffers change their kind.
    let converted = std::panic::AssertUnwindSafe(|| module.to(device, kind, false));
    std::panic::catch_unwind(converted).map_err(|_| ModelError::Load {
        reason: format!("it could not be converted to {kind:?} on {device:?}"),
    })?;
    Ok(module)
}
