//! The three methods of `implicit-field/1`, each as a pass.

use std::sync::Arc;

use metrics::counter;
use tch::{IValue, TchError, Tensor};

use super::{
    super::{
        backend::{Answer, FieldValues, Portion, Rows, UnderWay, Want},
        error::{EngineError, Operation},
    },
    Loaded, TorchBackend,
    transfer::{Ahead, Stretch, fetch},
};

/// Rows of a pass, and for each whether all of it is finite, to be read once the pass has landed.
pub(super) struct Apart {
    rows: Vec<Tensor>,
    finite: Tensor,
}

/// The size that so many rows are run at: where sizes were warmed up, the next of them.
pub(super) fn filled_up(warm: &[usize], rows: usize) -> usize {
    let mut warm = warm.iter().copied();
    warm.find(|&size| size >= rows).unwrap_or(rows)
}

impl TorchBackend {
    /// Pictures of one model as a tensor on the device, and after them as many blank ones as the batch's size needs.
    fn images(&self, model: usize, images: &[&[f32]]) -> Result<Tensor, TchError> {
        let loaded = self.loaded(model);
        let input = &loaded.manifest.input;
        let (height, width) = (i64::from(input.height), i64::from(input.width));
        let size = filled_up(&loaded.warm, images.len());
        counter!("orfeas_gpu_batch_padding_images_total").increment((size - images.len()) as u64);
        let mut stretches: Vec<_> = images.iter().map(|image| Stretch::Values(image)).collect();
        if size > images.len() {
            stretches.push(Stretch::Filling {
                count: (size - images.len()) * input.values(),
                with: 0.5,
            });
        }
        self.transfers
            .send(&[size as i64, 3, height, width], &stretches)
    }

    /// Begins to encode.
    pub(super) fn begin_encode(
        &self,
        model: usize,
        images: &[&[f32]],
    ) -> Result<UnderWay<Rows<Tensor>>, EngineError> {
        let operation = Operation::Encode;
        let send = || self.images(model, images);
        let ahead = self.transfers.ahead(operation, send)?;
        let pictures = ahead.tensor.shallow_clone();
        let (loaded, count) = (Arc::clone(self.loaded(model)), images.len());
        let encode = move || loaded.encode_rows(pictures, count);
        self.launch_rows(operation, Some(ahead), encode)
    }

    /// Begins a long pass that gives rows.
    pub(super) fn launch_rows(
        &self,
        operation: Operation,
        ahead: Option<Ahead>,
        launch: impl FnOnce() -> Result<Apart, TchError> + Send + 'static,
    ) -> Result<UnderWay<Rows<Tensor>>, EngineError> {
        let judged = move |apart: Apart| apart.judged(operation);
        self.transfers.launch(operation, ahead, launch, judged)
    }

    /// Begins to ask the field.
    pub(super) fn begin_query(
        &self,
        model: usize,
        portions: &[Portion<'_, Tensor>],
        row: usize,
    ) -> Result<UnderWay<Vec<Answer>>, EngineError> {
        let departure = self.transfers.depart(Operation::Query)?;
        let wants: Vec<_> = portions
            .iter()
            .map(|portion| (portion.points.len(), portion.want))
            .collect();
        let colors = portions
            .iter()
            .any(|portion| portion.want == Want::LogitsAndColors);
        let (logits, rgb) = self
            .query_rows(model, portions, row, colors)
            .map_err(self.failed(Operation::Query))?;
        let failed = self.failed(Operation::Query);
        // The query has a stream of its own: were codes given up now, the next encode could be put where they lie.
        let codes: Vec<Tensor> = portions
            .iter()
            .map(|portion| portion.codes.shallow_clone())
            .collect();
        self.transfers.let_go(departure, move || {
            drop(codes);
            let mut first = 0;
            let portion = |(points, want): (usize, Want)| {
                let from = first;
                first += points.div_ceil(row) * row;
                let logits = part(&logits, from, points)?;
                let rgb = match (want, &rgb) {
                    (Want::LogitsAndColors, Some(rgb)) => Some(part(rgb, 3 * from, 3 * points)?),
                    _ => None,
                };
                Ok(Answer::new(points, want, move || {
                    copied_out(&logits, rgb.as_ref(), points).map_err(failed)
                }))
            };
            wants.into_iter().map(portion).collect()
        })
    }

    fn query_rows(
        &self,
        model: usize,
        portions: &[Portion<'_, Tensor>],
        row: usize,
        colors: bool,
    ) -> Result<(Tensor, Option<Tensor>), TchError> {
        let rows_of = |portion: &Portion<'_, Tensor>| portion.points.len().div_ceil(row);
        let rows: Vec<&Tensor> = portions
            .iter()
            .flat_map(|portion| std::iter::repeat_n(portion.codes, rows_of(portion)))
            .collect();
        let shape = [rows.len() as i64, row as i64, 3];
        let mut stretches = Vec::with_capacity(2 * portions.len());
        for portion in portions {
            stretches.push(Stretch::Values(portion.points.as_flattened()));
            let padding = row * rows_of(portion) - portion.points.len();
            if padding > 0 {
                stretches.push(Stretch::Filling {
                    count: 3 * padding,
                    with: 0.0,
                });
            }
        }
        let points = self.transfers.send(&shape, &stretches)?;
        let codes = match rows.as_slice() {
            [codes] => codes.shallow_clone(),
            _ => Tensor::f_cat(&rows, 0)?,
        };
        let (logits, rgb) = self.ask(model, codes, points)?;
        let rgb = colors.then(|| fetch(&rgb)).transpose()?;
        Ok((fetch(&logits)?, rgb))
    }

    /// What `query` gives for rows of codes and as many rows of points, its shapes checked.
    fn ask(
        &self,
        model: usize,
        codes: Tensor,
        points: Tensor,
    ) -> Result<(Tensor, Tensor), TchError> {
        let (rows, count, _) = points.size3()?;
        let arguments = [IValue::Tensor(codes), IValue::Tensor(points)];
        let answer = self.loaded(model).module.method_is("query", &arguments)?;
        let (logits, rgb) = match answer {
            IValue::Tuple(pair) => match <[IValue; 2]>::try_from(pair) {
                Ok([IValue::Tensor(logits), IValue::Tensor(rgb)]) => (logits, rgb),
                _ => return Err(TchError::Shape("query gave no pair of tensors".into())),
            },
            _ => return Err(TchError::Shape("query gave no pair".into())),
        };
        if logits.size() != [rows, count] || rgb.size() != [rows, count, 3] {
            let message = format!(
                "query gave {:?} and {:?} for {rows} rows of {count} points",
                logits.size(),
                rgb.size()
            );
            return Err(TchError::Shape(message));
        }
        Ok((logits, rgb))
    }

    /// Begins to tell objects from their backgrounds.
    pub(super) fn begin_matte(
        &self,
        model: usize,
        images: &[&[f32]],
    ) -> Result<UnderWay<Vec<Vec<f32>>>, EngineError> {
        let departure = self.transfers.depart(Operation::Matte)?;
        let alpha = self
            .matte_rows(model, images)
            .map_err(self.failed(Operation::Matte))?;
        let pixels = self.loaded(model).manifest.input.pixels();
        let count = images.len();
        self.transfers.let_go(departure, move || {
            let matte = |at| {
                let mut matte = vec![0.0; pixels];
                part(&alpha, at * pixels, pixels)?.f_copy_data(&mut matte, pixels)?;
                Ok(matte)
            };
            (0..count).map(matte).collect()
        })
    }

    fn matte_rows(&self, model: usize, images: &[&[f32]]) -> Result<Tensor, TchError> {
        let loaded = self.loaded(model);
        let input = &loaded.manifest.input;
        let pictures = self.images(model, images)?;
        let size = pictures.size()[0];
        let alpha = loaded.module.method_ts("matte", &[pictures])?;
        let (height, width) = (i64::from(input.height), i64::from(input.width));
        if alpha.size() != [size, 1, height, width] {
            return Err(TchError::Shape(format!(
                "matte gave alpha of shape {:?}",
                alpha.size()
            )));
        }
        fetch(&alpha.f_narrow(0, 0, images.len() as i64)?)
    }
}

impl Loaded {
    fn encode_rows(&self, pictures: Tensor, count: usize) -> Result<Apart, TchError> {
        let size = pictures.size()[0];
        let codes = self.module.method_ts("encode", &[pictures])?;
        if codes.dim() < 2 || codes.size()[0] != size {
            let message = format!(
                "encode gave codes of shape {:?} for {size} images",
                codes.size()
            );
            return Err(TchError::Shape(message));
        }
        Apart::first(&codes, count)
    }
}

impl Apart {
    /// Takes the first `count` rows of what a method gave apart; what comes after them is padding.
    pub(super) fn first(whole: &Tensor, count: usize) -> Result<Self, TchError> {
        let finite = whole.f_isfinite()?.f_flatten(1, -1)?.f_all_dim(1, false)?;
        let finite = fetch(&finite.f_narrow(0, 0, count as i64)?)?;
        if whole.size()[0] == 1 {
            return Ok(Self {
                rows: vec![whole.shallow_clone()],
                finite,
            });
        }
        // Copies, so that a row's memory is free when its conversion ends and not when its whole batch has.
        let row = |at| {
            let view = whole.f_narrow(0, at, 1)?;
            let mut row = view.f_empty_like()?;
            row.f_copy_(&view)?;
            Ok(row)
        };
        let rows = (0..count as i64)
            .map(row)
            .collect::<Result<_, TchError>>()?;
        Ok(Self { rows, finite })
    }

    /// The rows of a pass that has landed; those that are not finite have failed by themselves.
    fn judged(self, operation: Operation) -> Result<Rows<Tensor>, TchError> {
        let Self { rows, finite } = self;
        let mut flags = vec![0.0_f32; rows.len()];
        finite.f_copy_data(&mut flags, rows.len())?;
        let judge = |(row, finite)| match finite {
            0.0 => Err(EngineError::NonFinite { operation }),
            _ => Ok(row),
        };
        Ok(rows.into_iter().zip(flags).map(judge).collect())
    }
}

/// Some values of a dense tensor, from one of them on.
fn part(tensor: &Tensor, from: usize, count: usize) -> Result<Tensor, TchError> {
    tensor.f_view([-1])?.f_narrow(0, from as i64, count as i64)
}

/// Copies a portion's values out of the processor's memory.
fn copied_out(
    logits: &Tensor,
    rgb: Option<&Tensor>,
    points: usize,
) -> Result<FieldValues, TchError> {
    let mut values = FieldValues {
        logits: vec![0.0; points],
        rgb: Vec::new(),
    };
    logits.f_copy_data(&mut values.logits, points)?;
    if let Some(rgb) = rgb {
        values.rgb = vec![[0.0; 3]; points];
        rgb.f_copy_data(values.rgb.as_flattened_mut(), 3 * points)?;
    }
    Ok(values)
}
