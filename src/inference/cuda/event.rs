//! CUDA events: when the device has come to a point of its work, and how long it took.
//!
//! tch binds none, so the CUDA runtime that came with libtorch is asked itself. libtorch's work in this process goes onto
//! each device's default stream, in the order of the calls, unless another one was entered.

use std::{
    ffi::{CStr, c_char, c_void},
    time::Duration,
};

use libloading::os::unix::{Library, Symbol};

use super::stream::Stream;

/// `cudaEventBlockingSync`: whoever waits sleeps, since the cores have other work.
const BLOCKING_SYNC: u32 = 1;

pub(super) type Status = i32;
type Handle = *mut c_void;

/// The runtime's functions for one device.
#[derive(Debug, Clone)]
pub struct Runtime {
    ordinal: i32,
    set_device: Symbol<unsafe extern "C" fn(i32) -> Status>,
    create: Symbol<unsafe extern "C" fn(*mut Handle, u32) -> Status>,
    record: Symbol<unsafe extern "C" fn(Handle, *mut c_void) -> Status>,
    query: Symbol<unsafe extern "C" fn(Handle) -> Status>,
    synchronize: Symbol<unsafe extern "C" fn(Handle) -> Status>,
    elapsed: Symbol<unsafe extern "C" fn(*mut f32, Handle, Handle) -> Status>,
    stream_wait: Symbol<unsafe extern "C" fn(*mut c_void, Handle, u32) -> Status>,
    destroy: Symbol<unsafe extern "C" fn(Handle) -> Status>,
    pub(super) host_alloc: Symbol<unsafe extern "C" fn(*mut *mut c_void, usize, u32) -> Status>,
    pub(super) free_host: Symbol<unsafe extern "C" fn(*mut c_void) -> Status>,
    error_string: Symbol<unsafe extern "C" fn(Status) -> *const c_char>,
}

/// A point in a device's work.
#[derive(Debug)]
pub struct Event {
    handle: Handle,
    runtime: Runtime,
}

// SAFETY: the runtime lets any thread use an event.
#[expect(unsafe_code, reason = "the event is the CUDA runtime's")]
unsafe impl Send for Event {}

impl Runtime {
    /// The runtime for libtorch's device `ordinal`, which becomes the calling thread's.
    ///
    /// # Errors
    /// Why it cannot be called: libtorch's CUDA half is not open, or there is no such device.
    #[expect(unsafe_code, reason = "tch has no binding for it")]
    pub fn new(ordinal: usize) -> Result<Self, String> {
        let process = Library::this();
        let ordinal = i32::try_from(ordinal).map_err(|error| error.to_string())?;
        // SAFETY: the symbols have these signatures in every CUDA runtime; libtorch keeps it loaded for ever.
        let runtime = unsafe {
            let missing = |error: libloading::Error| error.to_string();
            Self {
                ordinal,
                set_device: process.get(b"cudaSetDevice\0").map_err(missing)?,
                create: process
                    .get(b"cudaEventCreateWithFlags\0")
                    .map_err(missing)?,
                record: process.get(b"cudaEventRecord\0").map_err(missing)?,
                query: process.get(b"cudaEventQuery\0").map_err(missing)?,
                synchronize: process.get(b"cudaEventSynchronize\0").map_err(missing)?,
                elapsed: process.get(b"cudaEventElapsedTime\0").map_err(missing)?,
                stream_wait: process.get(b"cudaStreamWaitEvent\0").map_err(missing)?,
                destroy: process.get(b"cudaEventDestroy\0").map_err(missing)?,
                host_alloc: process.get(b"cudaHostAlloc\0").map_err(missing)?,
                free_host: process.get(b"cudaFreeHost\0").map_err(missing)?,
                error_string: process.get(b"cudaGetErrorString\0").map_err(missing)?,
            }
        };
        runtime.enter()?;
        Ok(runtime)
    }

    /// Makes the device the calling thread's.
    ///
    /// # Errors
    /// What the runtime says.
    #[expect(unsafe_code, reason = "tch has no binding for it")]
    pub fn enter(&self) -> Result<(), String> {
        // SAFETY: it takes a number and touches no memory of ours.
        self.judge(unsafe { (self.set_device)(self.ordinal) })
    }

    /// Marks the point of a stream's work that has been asked for so far; of the default one's without a stream.
    ///
    /// # Errors
    /// What the runtime says.
    #[expect(unsafe_code, reason = "tch has no binding for it")]
    pub fn mark(&self, stream: Option<&Stream>) -> Result<Event, String> {
        let stream = stream.map_or(std::ptr::null_mut(), |stream| stream.handle);
        let mut event = Event {
            handle: std::ptr::null_mut(),
            runtime: self.clone(),
        };
        // SAFETY: `handle` is a place for the new event.
        self.judge(unsafe { (self.create)(&raw mut event.handle, BLOCKING_SYNC) })?;
        // SAFETY: the event was made above, on this thread's device.
        self.judge(unsafe { (self.record)(event.handle, stream) })?;
        Ok(event)
    }

    /// Has what is asked of the default stream from now on wait until the device has come to `event`. Nobody else waits.
    ///
    /// # Errors
    /// What the runtime says.
    #[expect(unsafe_code, reason = "tch has no binding for it")]
    pub fn go_after(&self, event: &Event) -> Result<(), String> {
        // SAFETY: the event lives; the runtime notes what it needs of it before it returns.
        self.judge(unsafe { (self.stream_wait)(std::ptr::null_mut(), event.handle, 0) })
    }

    #[expect(unsafe_code, reason = "the runtime's message is a C string")]
    pub(super) fn judge(&self, status: Status) -> Result<(), String> {
        if status == 0 {
            return Ok(());
        }
        // SAFETY: the runtime gives a string that lives for ever, whatever the number.
        let message = unsafe { CStr::from_ptr((self.error_string)(status)) };
        Err(format!("CUDA error: {}", message.to_string_lossy()))
    }
}

impl Event {
    /// Whether there is nothing to wait for: the device has come here, or something went wrong before.
    #[must_use]
    #[expect(unsafe_code, reason = "tch has no binding for it")]
    pub fn is_over(&self) -> bool {
        /// `cudaErrorNotReady`.
        const NOT_READY: Status = 600;
        // SAFETY: the event lives as long as `self`.
        let status = unsafe { (self.runtime.query)(self.handle) };
        status != NOT_READY
    }

    /// Waits until the device has come here.
    ///
    /// # Errors
    /// What went wrong on the device before this point.
    #[expect(unsafe_code, reason = "tch has no binding for it")]
    pub fn wait(&self) -> Result<(), String> {
        // SAFETY: the event lives as long as `self`.
        self.runtime
            .judge(unsafe { (self.runtime.synchronize)(self.handle) })
    }

    /// The device's time from `earlier` to here; both have been waited for.
    ///
    /// # Errors
    /// What the runtime says.
    #[expect(unsafe_code, reason = "tch has no binding for it")]
    pub fn since(&self, earlier: &Self) -> Result<Duration, String> {
        let mut milliseconds = 0.0;
        // SAFETY: both events live, and `milliseconds` is a place for the answer.
        let status =
            unsafe { (self.runtime.elapsed)(&raw mut milliseconds, earlier.handle, self.handle) };
        self.runtime.judge(status)?;
        Ok(Duration::from_secs_f32(milliseconds.max(0.0) / 1000.0))
    }
}

impl Drop for Event {
    #[expect(unsafe_code, reason = "tch has no binding for it")]
    fn drop(&mut self) {
        if !self.handle.is_null() {
            // SAFETY: made by `mark`, and nobody else has it. Should it fail, a lost device says so at the next pass.
            unsafe { (self.runtime.destroy)(self.handle) };
        }
    }
}
