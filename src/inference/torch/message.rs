//! What libtorch's messages mean, and the one line of them that is worth keeping.

use tch::TchError;

use super::super::{
    device::DeviceId,
    error::{EngineError, Operation},
};

/// The longest part of a libtorch message that is kept: its first sentence says what is wrong.
pub(super) const REASON_CHARS_MAX: usize = 300;

/// What a message of libtorch means for the engine.
pub(super) fn classify(message: &str, device: DeviceId, operation: Operation) -> EngineError {
    let says = |part: &str| message.contains(part);
    let reason = reason_of(message);
    if says("out of memory")
        || says("can't allocate memory")
        || says("not enough memory")
        || says("ALLOC_FAILED")
    {
        EngineError::OutOfMemory { device, operation }
    } else if says("CUDA error:") {
        // Errors of kernels stay with the process's context: no later call on this device can succeed.
        EngineError::DeviceLost {
            device,
            reason,
            took_part: true,
        }
    } else {
        EngineError::Torch {
            device,
            operation,
            reason,
        }
    }
}

/// What an error of libtorch means for the engine.
pub(super) fn failed(
    device: DeviceId,
    operation: Operation,
) -> impl Fn(TchError) -> EngineError + Copy {
    move |error| classify(&error.to_string(), device, operation)
}

/// The telling line of a libtorch message, without the C++ frames, paths and code that surround it.
pub(super) fn reason_of(message: &str) -> String {
    let message = message
        .split("\nException raised from")
        .next()
        .unwrap_or_default();
    let lines = || {
        message
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
    };
    // An error in a model's own code ends with the sentence; its traceback comes first.
    let telling = if message.contains("Traceback of TorchScript") {
        lines().next_back()
    } else {
        lines().next()
    };
    telling
        .unwrap_or("no reason was given")
        .chars()
        .take(REASON_CHARS_MAX)
        .collect()
}
