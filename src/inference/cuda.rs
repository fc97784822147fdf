//! CUDA at run time: the binary links libtorch for the CPU alone and opens `libtorch_cuda.so` when a
//! GPU is asked for; NVML tells what cards there are and how full they are.

use std::{ffi::c_char, sync::OnceLock};

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW, Symbol};
use nvml_wrapper::{Nvml, enums::device::UsedGpuMemory, error::NvmlError};

use super::memory::MemoryNow;

pub mod event;
pub mod kernels;
pub mod pinned;
pub mod stream;

/// Found like the libraries that the binary links: by its rpath, then where the system looks.
const LIBTORCH_CUDA: &str = "libtorch_cuda.so";
/// `0000:00:00.0` and a closing zero, with room for longer domains.
const BUS_ID_BYTES: usize = 32;

/// One card as NVML sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpu {
    pub name: String,
    pub memory: MemoryNow,
}

/// NVIDIA's driver, if there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Driver {
    pub version: String,
    /// The newest CUDA that the driver runs, such as `13.0`.
    pub cuda_version: String,
    /// In NVML's order, which may not be libtorch's.
    pub gpus: Vec<Gpu>,
}

/// What `orfeas doctor` wants to know of libtorch and the cards.
#[derive(Debug, Clone)]
pub struct Probe {
    /// Such as `2.11.0`.
    pub torch_version: Option<String>,
    /// Whether `libtorch_cuda.so` could be opened, or why not.
    pub torch_cuda: Result<(), String>,
    /// The driver and its cards, or why there are none.
    pub driver: Result<Driver, String>,
    /// Devices that libtorch can use.
    pub devices_usable: usize,
}

/// Opens libtorch's CUDA half. It must happen before the first tensor, since libtorch looks for CUDA
/// once; later calls repeat the first answer.
///
/// # Errors
/// Why the loader could not open it.
pub fn open() -> Result<(), String> {
    static OPENED: OnceLock<Result<Library, String>> = OnceLock::new();
    OPENED
        .get_or_init(open_library)
        .as_ref()
        .map(|_| ())
        .map_err(Clone::clone)
}

#[expect(
    unsafe_code,
    reason = "opening a library runs its initialisers; libtorch's are made for this"
)]
fn open_library() -> Result<Library, String> {
    // RTLD_GLOBAL: libtorch_cpu must find what the CUDA half registers.
    // SAFETY: the file is libtorch's own; nothing of it is unloaded, since the handle lives for ever.
    unsafe { Library::open(Some(LIBTORCH_CUDA), RTLD_NOW | RTLD_GLOBAL) }
        .map_err(|error| error.to_string())
}

/// CUDA devices that libtorch can use: 0 unless [`open`] succeeded before the first tensor.
#[must_use]
pub fn devices_usable() -> usize {
    usize::try_from(tch::Cuda::device_count()).unwrap_or(0)
}

/// Looks at everything; opens the CUDA half if it can.
#[must_use]
pub fn probe() -> Probe {
    let torch_cuda = open();
    let devices_usable = if torch_cuda.is_ok() {
        devices_usable()
    } else {
        0
    };
    Probe {
        torch_version: torch_version(),
        torch_cuda,
        driver: driver(),
        devices_usable,
    }
}

/// NVIDIA's driver and its cards.
///
/// # Errors
/// Why NVML cannot be asked: mostly that no driver is installed.
pub fn driver() -> Result<Driver, String> {
    let ask = || -> Result<Driver, NvmlError> {
        let nvml = Nvml::init()?;
        let cuda = nvml.sys_cuda_driver_version()?;
        let gpu = |index| {
            let device = nvml.device_by_index(index)?;
            Ok(Gpu {
                name: device.name()?,
                memory: memory_of(&device)?,
            })
        };
        Ok(Driver {
            version: nvml.sys_driver_version()?,
            // NVML writes 13.0 as 13000.
            cuda_version: format!("{}.{}", cuda / 1000, cuda % 1000 / 10),
            gpus: (0..nvml.device_count()?)
                .map(gpu)
                .collect::<Result<_, NvmlError>>()?,
        })
    };
    ask().map_err(|error| error.to_string())
}

/// Watches the memory of one CUDA device.
#[derive(Debug)]
pub struct MemoryWatch {
    nvml: Nvml,
    /// libtorch and NVML may number cards differently; the bus does not.
    bus_id: Option<String>,
    ordinal: usize,
}

impl MemoryWatch {
    /// Watches libtorch's device `ordinal`; `None` where NVML cannot be asked.
    #[must_use]
    pub fn new(ordinal: usize) -> Option<Self> {
        let watch = Self {
            nvml: Nvml::init().ok()?,
            bus_id: bus_id(ordinal),
            ordinal,
        };
        watch.now().map(|_| watch)
    }

    /// The device's memory now.
    #[must_use]
    pub fn now(&self) -> Option<MemoryNow> {
        memory_of(&self.device().ok()?).ok()
    }

    /// What this process has of the memory; `None` where the driver knows it by another number, as in some containers.
    #[must_use]
    pub fn own_bytes(&self) -> Option<u64> {
        let processes = self.device().ok()?.running_compute_processes().ok()?;
        let own = processes
            .into_iter()
            .find(|process| process.pid == std::process::id())?;
        match own.used_gpu_memory {
            UsedGpuMemory::Used(bytes) => Some(bytes),
            UsedGpuMemory::Unavailable => None,
        }
    }

    /// The share of the last moments in which a kernel ran, of any process: 0 to 1.
    #[must_use]
    pub fn utilization(&self) -> Option<f64> {
        let rates = self.device().ok()?.utilization_rates().ok()?;
        Some(f64::from(rates.gpu) / 100.0)
    }

    /// The maker's name for the device.
    #[must_use]
    pub fn name(&self) -> Option<String> {
        self.device().ok()?.name().ok()
    }

    fn device(&self) -> Result<nvml_wrapper::Device<'_>, NvmlError> {
        match &self.bus_id {
            Some(bus_id) => self.nvml.device_by_pci_bus_id(bus_id.as_str()),
            None => self
                .nvml
                .device_by_index(u32::try_from(self.ordinal).unwrap_or(u32::MAX)),
        }
    }
}

fn memory_of(device: &nvml_wrapper::Device<'_>) -> Result<MemoryNow, NvmlError> {
    let memory = device.memory_info()?;
    Ok(MemoryNow {
        total_bytes: memory.total,
        free_bytes: memory.free,
    })
}

/// The PCI address of libtorch's device `ordinal`, asked of the CUDA runtime that came with libtorch.
#[expect(unsafe_code, reason = "tch has no binding for it")]
fn bus_id(ordinal: usize) -> Option<String> {
    type GetBusId = unsafe extern "C" fn(*mut c_char, i32, i32) -> i32;
    let mut text: [c_char; BUS_ID_BYTES] = [0; BUS_ID_BYTES];
    let ordinal = i32::try_from(ordinal).ok()?;
    // SAFETY: the symbol has this signature in every CUDA runtime, and writes at most the length told,
    // with its closing zero.
    let status = unsafe {
        let get: Symbol<GetBusId> = Library::this().get(b"cudaDeviceGetPCIBusId\0").ok()?;
        get(text.as_mut_ptr(), BUS_ID_BYTES as i32, ordinal)
    };
    let bytes: Vec<u8> = text
        .iter()
        .map(|&letter| letter.cast_unsigned())
        .take_while(|&byte| byte != 0)
        .collect();
    if status == 0 {
        String::from_utf8(bytes).ok()
    } else {
        None
    }
}

/// The version of the libtorch that runs, as it says itself.
#[must_use]
#[expect(unsafe_code, reason = "tch has no binding for it")]
pub fn torch_version() -> Option<String> {
    type AbiVersion = unsafe extern "C" fn() -> u64;
    // SAFETY: part of libtorch's stable C interface: no argument, one number with a byte for each of
    // major, minor and patch at its top.
    let version = unsafe {
        Library::this()
            .get::<AbiVersion>(b"aoti_torch_abi_version\0")
            .ok()?()
    };
    let [major, minor, patch, ..] = version.to_be_bytes();
    Some(format!("{major}.{minor}.{patch}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probe_tells_the_linked_version_and_agrees_with_itself() {
        let probe = probe();
        assert_eq!(
            probe.torch_version.as_deref(),
            Some("2.11.0"),
            "tch 0.24 needs exactly this"
        );
        if probe.torch_cuda.is_err() || probe.driver.is_err() {
            assert_eq!(probe.devices_usable, 0);
        }
    }
}
