//! How long kernels ran, by NVIDIA's profiler (CUPTI), which tells the beginning and the end of each one on the device.
//!
//! Events around a pass count the gaps that a slow processor leaves between its kernels; this doesn't. libtorch brings
//! CUPTI along. Watching costs about a microsecond a kernel, so it is for benchmarks.

use std::{
    alloc::{Layout, alloc, dealloc},
    ffi::c_void,
    sync::{Mutex, OnceLock, PoisonError},
    time::Instant,
};

use libloading::os::unix::{Library, RTLD_LAZY, Symbol};

/// The profiler's library if libtorch has not opened it already, by its names in CUDA 13 and 12.
const LIBRARIES: [&str; 2] = ["libcupti.so.13", "libcupti.so.12"];

/// `CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL`: kernels as they run, also beside each other.
const KERNELS: u32 = 10;

/// Room for some fifty thousand kernels.
const BUFFER: Layout = match Layout::from_size_align(8 << 20, 8) {
    Ok(layout) => layout,
    Err(_) => panic!("eight is a power of two"),
};

type Status = i32;
type Record = *mut c_void;
type Requested = extern "C" fn(*mut *mut u8, *mut usize, *mut usize);
type Completed = extern "C" fn(*mut c_void, u32, *mut u8, usize, usize);

/// The profiler's functions.
#[derive(Debug)]
struct Cupti {
    register: Symbol<unsafe extern "C" fn(Requested, Completed) -> Status>,
    enable: Symbol<unsafe extern "C" fn(u32) -> Status>,
    flush: Symbol<unsafe extern "C" fn(u32) -> Status>,
    next: Symbol<unsafe extern "C" fn(*mut u8, usize, *mut Record) -> Status>,
    timestamp: Symbol<unsafe extern "C" fn(*mut u64) -> Status>,
}

/// What every record of a kernel begins with (`CUpti_ActivityKernel` in all its versions).
#[repr(C)]
struct Kernel {
    kind: u32,
    settings: [u32; 3],
    /// Nanoseconds of the profiler's clock.
    start: u64,
    end: u64,
}

/// One kernel's time on a device, in nanoseconds of the profiler's clock.
type Span = (u64, u64);

/// The profiler, once somebody has begun to watch.
static CUPTI: OnceLock<Result<Cupti, String>> = OnceLock::new();

/// The kernels that ended and were not asked about yet.
static SPANS: Mutex<Vec<Span>> = Mutex::new(Vec::new());

/// Watches all kernels of this process.
#[derive(Debug, Clone, Copy)]
pub struct KernelWatch {
    cupti: &'static Cupti,
    /// The same moment by two clocks.
    since: Instant,
    since_ns: u64,
}

impl KernelWatch {
    /// Begins to watch. All devices of the process count together, so use it with one.
    ///
    /// # Errors
    /// Why the profiler can't be had: there is no GPU, or another profiler holds it.
    pub fn begin() -> Result<Self, String> {
        let cupti = CUPTI.get_or_init(Cupti::begun).as_ref();
        let cupti = cupti.map_err(Clone::clone)?;
        Ok(Self {
            cupti,
            since: Instant::now(),
            since_ns: cupti.now()?,
        })
    }

    /// The share of the time from `from` to `to` in which at least one kernel ran, 0 to 1. Forgets all kernels so far.
    ///
    /// # Errors
    /// What the profiler says.
    #[expect(unsafe_code, reason = "there is no binding for it")]
    pub fn share(&self, from: Instant, to: Instant) -> Result<f64, String> {
        // SAFETY: the function takes any flags; 1 hands over all buffers, also those that are not full.
        judged(unsafe { (self.cupti.flush)(1) })?;
        let spans = std::mem::take(&mut *SPANS.lock().unwrap_or_else(PoisonError::into_inner));
        let at = |moment: Instant| {
            let since = moment.saturating_duration_since(self.since).as_nanos();
            self.since_ns + u64::try_from(since).unwrap_or(u64::MAX)
        };
        let (from, to) = (at(from), at(to));
        #[expect(clippy::cast_precision_loss, reason = "a share")]
        let share = covered(spans, from, to) as f64 / to.saturating_sub(from).max(1) as f64;
        Ok(share)
    }
}

impl Cupti {
    #[expect(unsafe_code, reason = "there is no binding for it")]
    fn begun() -> Result<Self, String> {
        let library = Self::library()?;
        // SAFETY: the symbols have these signatures in every CUPTI; the library is never closed.
        let cupti = unsafe {
            let missing = |error: libloading::Error| error.to_string();
            Self {
                register: library
                    .get(b"cuptiActivityRegisterCallbacks\0")
                    .map_err(missing)?,
                enable: library.get(b"cuptiActivityEnable\0").map_err(missing)?,
                flush: library.get(b"cuptiActivityFlushAll\0").map_err(missing)?,
                next: library
                    .get(b"cuptiActivityGetNextRecord\0")
                    .map_err(missing)?,
                timestamp: library.get(b"cuptiGetTimestamp\0").map_err(missing)?,
            }
        };
        std::mem::forget(library);
        // SAFETY: both functions live for ever and keep to what CUPTI asks of them.
        judged(unsafe { (cupti.register)(requested, completed) })?;
        // SAFETY: a kind that every CUPTI knows.
        judged(unsafe { (cupti.enable)(KERNELS) })?;
        Ok(cupti)
    }

    #[expect(unsafe_code, reason = "opening a library runs its initialisers")]
    fn library() -> Result<Library, String> {
        let process = Library::this();
        // SAFETY: looked for, not called.
        if unsafe { process.get::<*mut c_void>(b"cuptiActivityEnable\0") }.is_ok() {
            return Ok(process);
        }
        let mut reason = String::new();
        for name in LIBRARIES {
            // SAFETY: NVIDIA's own library, made for being opened.
            match unsafe { Library::open(Some(name), RTLD_LAZY) } {
                Ok(library) => return Ok(library),
                Err(error) => reason = error.to_string(),
            }
        }
        Err(reason)
    }

    #[expect(unsafe_code, reason = "there is no binding for it")]
    fn now(&self) -> Result<u64, String> {
        let mut now = 0;
        // SAFETY: `now` is a place for the answer.
        judged(unsafe { (self.timestamp)(&raw mut now) })?;
        Ok(now)
    }
}

fn judged(status: Status) -> Result<(), String> {
    match status {
        0 => Ok(()),
        status => Err(format!("CUPTI error {status}")),
    }
}

/// CUPTI wants memory to write records into.
#[expect(unsafe_code, reason = "CUPTI passes places for the answer")]
extern "C" fn requested(buffer: *mut *mut u8, size: *mut usize, records_max: *mut usize) {
    // SAFETY: three places for the answer; no memory, which is null, makes CUPTI drop records. Zero: as many as fit.
    unsafe {
        *buffer = alloc(BUFFER);
        *size = BUFFER.size();
        *records_max = 0;
    }
}

/// CUPTI gives the memory back, written up to `valid` bytes.
#[expect(unsafe_code, reason = "CUPTI passes the memory of `requested`")]
extern "C" fn completed(_: *mut c_void, _: u32, buffer: *mut u8, _: usize, valid: usize) {
    if buffer.is_null() {
        return;
    }
    let mut spans = SPANS.lock().unwrap_or_else(PoisonError::into_inner);
    let mut record: Record = std::ptr::null_mut();
    // None of the records before the watch has begun is asked about.
    if let Some(Ok(cupti)) = CUPTI.get() {
        // SAFETY: CUPTI wrote the records; every kernel's begins like `Kernel`.
        while unsafe { (cupti.next)(buffer, valid, &raw mut record) } == 0 {
            let kernel = unsafe { &*record.cast::<Kernel>() };
            if kernel.kind == KERNELS {
                spans.push((kernel.start, kernel.end));
            }
        }
    }
    // SAFETY: taken by `requested` with this layout, and CUPTI is done with it.
    unsafe { dealloc(buffer, BUFFER) };
}

/// How much of `from..to` the spans cover together.
fn covered(mut spans: Vec<Span>, from: u64, to: u64) -> u64 {
    spans.sort_unstable();
    let (mut covered, mut reached) = (0, from);
    for (start, end) in spans {
        let (start, end) = (start.max(reached), end.min(to));
        if start < end {
            covered += end - start;
            reached = end;
        }
    }
    covered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlapping_spans_count_once_and_only_within_the_time_asked_about() {
        let spans = vec![(40, 60), (0, 12), (10, 20), (12, 15), (95, 200), (300, 400)];
        assert_eq!(covered(spans.clone(), 5, 100), 15 + 20 + 5);
        assert_eq!(covered(spans, 210, 290), 0);
        assert_eq!(covered(Vec::new(), 0, 100), 0);
    }

    #[test]
    fn without_a_gpu_it_says_why_not() {
        if super::super::driver().is_err() {
            assert!(!KernelWatch::begin().unwrap_err().is_empty());
        }
    }
}
