//! A second line of work on a device: what is put there goes before the default stream's work and waits for none of it.

use std::ffi::c_void;

use libloading::os::unix::{Library, Symbol};

use super::event::{Runtime, Status};

/// `cudaStreamNonBlocking`: it doesn't wait for the default stream, nor that for it.
const NON_BLOCKING: u32 = 1;

type Guard = *mut c_void;

/// A stream of one device. It is never given back: a thread that owns a device needs it to its end.
#[derive(Debug)]
pub struct Stream {
    pub(super) handle: *mut c_void,
    ordinal: i32,
    enter: Symbol<unsafe extern "C" fn(*mut c_void, i32, *mut Guard) -> Status>,
    leave: Symbol<unsafe extern "C" fn(Guard) -> Status>,
}

/// As long as it lives, what its thread asks of libtorch goes onto the stream.
#[derive(Debug)]
pub struct Entered {
    guard: Guard,
    leave: Symbol<unsafe extern "C" fn(Guard) -> Status>,
}

impl Stream {
    /// A stream of libtorch's device `ordinal`, the calling thread's, that goes before the default one.
    ///
    /// # Errors
    /// Why there is none.
    #[expect(unsafe_code, reason = "tch has no binding for it")]
    pub fn urgent(runtime: &Runtime, ordinal: usize) -> Result<Self, String> {
        type Range = unsafe extern "C" fn(*mut i32, *mut i32) -> Status;
        type Create = unsafe extern "C" fn(*mut *mut c_void, u32, i32) -> Status;
        let process = Library::this();
        let missing = |error: libloading::Error| error.to_string();
        // SAFETY: the CUDA runtime's and libtorch's stable C interface have these signatures; both stay loaded for ever.
        let (range, create, enter, leave) = unsafe {
            let range: Symbol<Range> = process
                .get(b"cudaDeviceGetStreamPriorityRange\0")
                .map_err(missing)?;
            let create: Symbol<Create> = process
                .get(b"cudaStreamCreateWithPriority\0")
                .map_err(missing)?;
            let enter = process
                .get(b"aoti_torch_create_cuda_stream_guard\0")
                .map_err(missing)?;
            let leave = process
                .get(b"aoti_torch_delete_cuda_stream_guard\0")
                .map_err(missing)?;
            (range, create, enter, leave)
        };
        let (mut least, mut greatest) = (0, 0);
        // SAFETY: two places for the answers.
        runtime.judge(unsafe { range(&raw mut least, &raw mut greatest) })?;
        let mut handle = std::ptr::null_mut();
        // SAFETY: a place for the stream.
        runtime.judge(unsafe { create(&raw mut handle, NON_BLOCKING, greatest) })?;
        Ok(Self {
            handle,
            ordinal: i32::try_from(ordinal).map_err(|error| error.to_string())?,
            enter,
            leave,
        })
    }

    /// Makes it the calling thread's.
    ///
    /// # Errors
    /// If libtorch refuses.
    #[expect(unsafe_code, reason = "tch has no binding for it")]
    pub fn enter(&self) -> Result<Entered, String> {
        let mut guard = std::ptr::null_mut();
        // SAFETY: the stream is this device's and lives for ever; `guard` is a place for the answer.
        match unsafe { (self.enter)(self.handle, self.ordinal, &raw mut guard) } {
            0 => Ok(Entered {
                guard,
                leave: self.leave.clone(),
            }),
            status => Err(format!("libtorch refuses a stream: {status}")),
        }
    }
}

impl Drop for Entered {
    #[expect(unsafe_code, reason = "tch has no binding for it")]
    fn drop(&mut self) {
        // SAFETY: made by `enter` on this thread, since it can't be sent to another. It only sets the stream back.
        unsafe { (self.leave)(self.guard) };
    }
}
