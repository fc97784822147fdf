//! Which devices an engine uses, and how they stand.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

/// One device as libtorch numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeviceId {
    Cpu,
    Cuda(usize),
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

/// What `ORFEAS_DEVICE` asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// Every CUDA device if there is one and it can be used, else the CPU.
    #[default]
    Auto,
    Cpu,
    /// Every CUDA device; an error if there is none.
    Cuda,
    /// These CUDA devices, all of them.
    CudaList(Vec<usize>),
}

/// Text that names no choice of devices.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is no choice of devices: write `auto`, `cpu`, `cuda` or, for example, `cuda:0,1`"
)]
pub struct DeviceChoiceError {
    text: String,
}

impl FromStr for DeviceChoice {
    type Err = DeviceChoiceError;

    fn from_str(text: &str) -> Result<Self, DeviceChoiceError> {
        let wrong = || DeviceChoiceError {
            text: text.to_owned(),
        };
        match text {
            "auto" => return Ok(Self::Auto),
            "cpu" => return Ok(Self::Cpu),
            "cuda" => return Ok(Self::Cuda),
            _ => {}
        }
        let list = text.strip_prefix("cuda:").ok_or_else(wrong)?;
        let indices: Vec<usize> = list
            .split(',')
            .map(|index| index.parse().map_err(|_| wrong()))
            .collect::<Result<_, _>>()?;
        // The same device twice would hold the model twice.
        let twice = indices
            .iter()
            .enumerate()
            .any(|(at, index)| indices[..at].contains(index));
        if twice {
            Err(wrong())
        } else {
            Ok(Self::CudaList(indices))
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda => f.write_str("cuda"),
            Self::CudaList(indices) => {
                f.write_str("cuda:")?;
                for (at, index) in indices.iter().enumerate() {
                    let comma = if at == 0 { "" } else { "," };
                    write!(f, "{comma}{index}")?;
                }
                Ok(())
            }
        }
    }
}

/// A device of a running engine, as `nodes` and `doctor` show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    pub id: DeviceId,
    /// The maker's name for it, `CPU` for the processor.
    pub name: String,
    /// Unknown for the CPU, and where the driver does not tell.
    pub memory_total_bytes: Option<u64>,
    /// As seen last, at most a second before the last pass.
    pub memory_free_bytes: Option<u64>,
    /// The largest batch of the default model now.
    pub batch_images_max: usize,
    /// The largest batch of each model now: what was measured, and what running out of memory has taught.
    pub ceilings: Vec<(Arc<str>, usize)>,
    /// Conversions whose codes lie on the device.
    pub conversions: usize,
    /// How long it has worked on passes since the start. Unknown for the CPU.
    pub busy: Option<Duration>,
    /// Why the device is no longer used.
    pub lost: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_parse_and_print_alike() {
        let choices = [
            ("auto", DeviceChoice::Auto),
            ("cpu", DeviceChoice::Cpu),
            ("cuda", DeviceChoice::Cuda),
            ("cuda:0", DeviceChoice::CudaList(vec![0])),
            ("cuda:0,3,1", DeviceChoice::CudaList(vec![0, 3, 1])),
        ];
        for (text, choice) in choices {
            assert_eq!(text.parse(), Ok(choice.clone()));
            assert_eq!(choice.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_choice_is_refused() {
        for text in [
            "", "gpu", "CPU", "cuda:", "cuda:a", "cuda:0,", "cuda:-1", "cuda:0,0", "cpu:0",
            "cuda 0",
        ] {
            assert!(text.parse::<DeviceChoice>().is_err(), "{text}");
        }
    }
}
