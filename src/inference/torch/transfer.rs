//! Passes on their way to a device and back.
//!
//! On CUDA all is asynchronous: values lie in pinned memory (`staging`), and an event says when the device has come so far.
//! Queries and mattes have a stream of their own, which goes before the other one: an encode takes tens of milliseconds,
//! in which the conversions before it would wait for a query of one. Long passes go onto the default stream, from a thread
//! of their own (`launcher`); what they compute from is sent by the other stream, while those before them are computed.
//! On a CPU values are where they are needed, and a pass is over when its call returns.

use std::{cell::RefCell, fmt, rc::Rc, sync::Arc, time::Duration};

use metrics::histogram;
use tch::{Device, Kind, TchError, Tensor};

use super::{
    super::{
        backend::UnderWay,
        cuda::{
            event::{Event, Runtime},
            pinned::Pool,
            stream::{Entered, Stream},
        },
        device::DeviceId,
        error::{EngineError, Operation},
        staging::{InPlace, Staging},
    },
    busy::Busy,
    launcher::Launcher,
    message::failed,
};

/// The ways to and from one device.
pub(super) struct Transfers {
    id: DeviceId,
    pub(super) device: Device,
    cuda: Option<Cuda>,
}

struct Cuda {
    runtime: Runtime,
    /// For short passes, and for what long ones compute from.
    urgent: Stream,
    launcher: Launcher,
    busy: Rc<RefCell<Busy>>,
}

/// A short pass while it is put together.
pub(super) struct Departure {
    operation: Operation,
    /// The urgent stream, and where on it the pass begins.
    urgent: Option<(Entered, Event)>,
}

/// What was sent for a long pass, and the point at which it is there.
pub(super) struct Ahead {
    pub(super) tensor: Tensor,
    there: Option<Event>,
}

/// What a pass takes of a device: from one point to the other.
struct Stay {
    start: Event,
    end: Rc<Event>,
}

impl fmt::Debug for Transfers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transfers")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Transfers {
    /// For a device, which becomes the calling thread's.
    ///
    /// # Errors
    /// [`EngineError::DeviceLost`] if the CUDA runtime cannot be called.
    pub(super) fn new(id: DeviceId) -> Result<Self, EngineError> {
        let (device, cuda) = match id {
            DeviceId::Cpu => (Device::Cpu, None),
            DeviceId::Cuda(ordinal) => {
                let runtime = Runtime::new(ordinal).map_err(lost(id))?;
                let origin = runtime.mark(None).map_err(lost(id))?;
                origin.wait().map_err(lost(id))?;
                let launcher = Launcher::spawn(id)?;
                let launchers = runtime.clone();
                let entered = launcher.launch(move || launchers.enter()).wait();
                entered.map_err(lost(id))?;
                let cuda = Cuda {
                    urgent: Stream::urgent(&runtime, ordinal).map_err(lost(id))?,
                    launcher,
                    runtime,
                    busy: Rc::new(RefCell::new(Busy::since(origin))),
                };
                (Device::Cuda(ordinal), Some(cuda))
            }
        };
        Ok(Self { id, device, cuda })
    }

    /// The device's time in passes that have landed; unknown of a CPU.
    pub(super) fn busy(&self) -> Option<Duration> {
        let seconds = self.cuda.as_ref()?.busy.borrow().seconds();
        Some(Duration::from_secs_f64(seconds))
    }

    /// Begins a short pass: until it is let go, what this thread asks of libtorch goes before long passes.
    ///
    /// # Errors
    /// [`EngineError::DeviceLost`].
    pub(super) fn depart(&self, operation: Operation) -> Result<Departure, EngineError> {
        debug_assert!(operation.is_short(), "long passes are launched");
        let enter = |cuda: &Cuda| Ok((cuda.urgent.enter()?, cuda.mark_urgent()?));
        let urgent = self.cuda.as_ref().map(enter).transpose();
        Ok(Departure {
            operation,
            urgent: urgent.map_err(lost(self.id))?,
        })
    }

    /// Has values sent that a long pass computes from.
    ///
    /// # Errors
    /// [`EngineError`].
    pub(super) fn ahead(
        &self,
        operation: Operation,
        send: impl FnOnce() -> Result<Tensor, TchError>,
    ) -> Result<Ahead, EngineError> {
        let enter = |cuda: &Cuda| cuda.urgent.enter();
        let entered = self.cuda.as_ref().map(enter).transpose();
        let _entered = entered.map_err(lost(self.id))?;
        let tensor = send().map_err(failed(self.id, operation))?;
        let there = self.cuda.as_ref().map(Cuda::mark_urgent).transpose();
        Ok(Ahead {
            tensor,
            there: there.map_err(lost(self.id))?,
        })
    }

    /// Begins a long pass: `launch` asks libtorch for it, and `read` gets what that gave, once the device has come so far.
    /// It goes after what was sent `ahead` is there, which is kept until it has landed.
    ///
    /// # Errors
    /// [`EngineError`], where nothing is asynchronous; elsewhere the pass has them.
    pub(super) fn launch<T: Send + 'static, R: 'static>(
        &self,
        operation: Operation,
        ahead: Option<Ahead>,
        launch: impl FnOnce() -> Result<T, TchError> + Send + 'static,
        read: impl FnOnce(T) -> Result<R, TchError> + 'static,
    ) -> Result<UnderWay<R>, EngineError> {
        let id = self.id;
        let failed = failed(id, operation);
        let Some(cuda) = &self.cuda else {
            let landed = launch().and_then(read);
            return landed.map(UnderWay::landed).map_err(failed);
        };
        let (sent, there) = ahead.map(|ahead| (ahead.tensor, ahead.there)).unzip();
        let runtime = cuda.runtime.clone();
        let launched = cuda.launcher.launch(move || {
            if let Some(there) = there.flatten() {
                runtime.go_after(&there).map_err(lost(id))?;
            }
            let start = runtime.mark(None).map_err(lost(id))?;
            let given = launch().map_err(failed)?;
            let end = runtime.mark(None).map_err(lost(id))?;
            Ok::<_, EngineError>((given, start, end))
        });
        let launched = Rc::new(launched);
        let is_over = {
            let launched = Rc::clone(&launched);
            move || {
                launched.is_over(|given| given.as_ref().map_or(true, |(_, _, end)| end.is_over()))
            }
        };
        let busy = Rc::clone(&cuda.busy);
        Ok(UnderWay::new(is_over, move || {
            let (given, start, end) = launched.wait()?;
            let end = Rc::new(end);
            Stay { start, end }.over(id, operation, &busy)?;
            // It was sent by another stream: given up sooner, that could have put something else where it lies.
            drop(sent);
            read(given).map_err(failed)
        }))
    }

    /// Where callers lay values for this device.
    pub(super) fn staging(&self) -> Staging {
        match &self.cuda {
            Some(cuda) => Arc::new(Pool::new(cuda.runtime.clone())),
            None => Arc::new(InPlace),
        }
    }

    /// A float tensor on the device with these stretches of values, one after the other. Those in pinned memory must stay
    /// where they are until the pass has landed; others are copied before this returns.
    ///
    /// # Errors
    /// libtorch's: mostly that memory is short.
    pub(super) fn send(
        &self,
        shape: &[i64],
        stretches: &[Stretch<'_>],
    ) -> Result<Tensor, TchError> {
        if self.cuda.is_none() {
            let mut values = Vec::with_capacity(shape.iter().product::<i64>() as usize);
            for stretch in stretches {
                match *stretch {
                    Stretch::Values(some) => values.extend_from_slice(some),
                    Stretch::Filling { count, with } => values.resize(values.len() + count, with),
                }
            }
            return Tensor::f_from_slice(&values)?.f_view(shape);
        }
        let sent = |stretch: &Stretch<'_>| match *stretch {
            Stretch::Values(values) => {
                lent(values)?.f_internal_to_copy((Kind::Float, self.device), true)
            }
            Stretch::Filling { count, with } => {
                Tensor::f_full([count as i64], f64::from(with), (Kind::Float, self.device))
            }
        };
        let sent: Vec<Tensor> = stretches.iter().map(sent).collect::<Result<_, _>>()?;
        match sent.as_slice() {
            [whole] => whole.f_view(shape),
            parts => Tensor::f_cat(parts, 0)?.f_view(shape),
        }
    }

    /// Lets a short pass go; `read` gets its results from what was fetched. Where nothing is asynchronous it has landed.
    ///
    /// # Errors
    /// [`EngineError`].
    pub(super) fn let_go<T: 'static>(
        &self,
        departure: Departure,
        read: impl FnOnce() -> Result<T, TchError> + 'static,
    ) -> Result<UnderWay<T>, EngineError> {
        let Departure { operation, urgent } = departure;
        let id = self.id;
        let failed = failed(id, operation);
        let (Some(cuda), Some((entered, start))) = (&self.cuda, urgent) else {
            return read().map(UnderWay::landed).map_err(failed);
        };
        let end = Rc::new(cuda.mark_urgent().map_err(lost(id))?);
        drop(entered);
        let is_over = {
            let end = Rc::clone(&end);
            move || end.is_over()
        };
        let busy = Rc::clone(&cuda.busy);
        Ok(UnderWay::new(is_over, move || {
            Stay { start, end }.over(id, operation, &busy)?;
            read().map_err(failed)
        }))
    }
}

impl Cuda {
    fn mark_urgent(&self) -> Result<Event, String> {
        self.runtime.mark(Some(&self.urgent))
    }
}

impl Stay {
    /// Waits for its end and counts it.
    ///
    /// # Errors
    /// [`EngineError::DeviceLost`].
    fn over(
        &self,
        id: DeviceId,
        operation: Operation,
        busy: &RefCell<Busy>,
    ) -> Result<(), EngineError> {
        let waited = self.end.wait().and_then(|()| self.end.since(&self.start));
        let took = waited.map_err(lost(id))?;
        histogram!("orfeas_engine_device_seconds", "op" => operation.label()).record(took);
        busy.borrow_mut()
            .add(&self.start, &self.end)
            .map_err(lost(id))
    }
}

/// A copy of a tensor that the processor may read once the pass has landed.
///
/// # Errors
/// libtorch's.
pub(super) fn fetch(tensor: &Tensor) -> Result<Tensor, TchError> {
    tensor
        .f_contiguous()?
        .f_internal_to_copy((Kind::Float, Device::Cpu), tensor.device().is_cuda())
}

/// Errors of the runtime stay with the device: no later call can succeed.
fn lost(device: DeviceId) -> impl FnOnce(String) -> EngineError {
    move |reason| EngineError::DeviceLost {
        device,
        reason,
        took_part: true,
    }
}

/// Some of the values of a tensor.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stretch<'a> {
    /// These.
    Values(&'a [f32]),
    /// So many of one value.
    Filling { count: usize, with: f32 },
}

/// A tensor that lies in values which others own. It must not outlive them.
#[expect(unsafe_code, reason = "tch copies slices into tensors of their own")]
fn lent(values: &[f32]) -> Result<Tensor, TchError> {
    // SAFETY: so many floats lie there and are only read; the caller drops the tensor within its statement.
    unsafe {
        Tensor::f_from_blob(
            values.as_ptr().cast(),
            &[values.len() as i64],
            &[1],
            Kind::Float,
            Device::Cpu,
        )
    }
}
