//! What a GPU does with shared passes, tried on the CPU: several rows a conversion, padding, blank pictures.

use super::*;

/// How far a logit may move by the company of its row: on a CPU kernels of other shapes add in another order.
const MOVE_MAX: f32 = 2e-3;

/// A backend with the shipped model alone, and pictures encoded one by one.
fn loaded(pictures: &[Vec<f32>]) -> (TorchBackend, Vec<Tensor>) {
    let mut backend = TorchBackend::on(DeviceId::Cpu, None).unwrap();
    let catalog = Catalog::find(Path::new(MODELS)).unwrap();
    let served = catalog.served();
    let model = served.iter().find(|served| *served.name == *MODEL);
    assert_eq!(backend.load(model.unwrap()).unwrap(), 0);
    let codes = pictures
        .iter()
        .map(|picture| rows(&mut backend, &[picture]).remove(0))
        .collect();
    (backend, codes)
}

fn rows(backend: &mut TorchBackend, pictures: &[&[f32]]) -> Vec<Tensor> {
    let rows = backend.encode(0, pictures).unwrap().land().unwrap();
    rows.into_iter().collect::<Result<_, _>>().unwrap()
}

fn asked(
    backend: &mut TorchBackend,
    asked: &[(&Tensor, &[[f32; 3]], Want)],
    row: usize,
) -> Vec<FieldValues> {
    let portions: Vec<_> = asked
        .iter()
        .map(|&(codes, points, want)| Portion {
            codes,
            points,
            want,
        })
        .collect();
    let answers = backend.query(0, &portions, row).unwrap().land().unwrap();
    answers
        .into_iter()
        .map(|answer| answer.read().unwrap())
        .collect()
}

fn pictures() -> Vec<Vec<f32>> {
    (0..3)
        .map(|at| ball(0.5 + 0.15 * at as f32, [0.2 + 0.3 * at as f32, 0.5, 0.4]))
        .collect()
}

fn assert_near(values: &[f32], expected: &[f32]) {
    assert_eq!(values.len(), expected.len());
    for (value, expected) in values.iter().zip(expected) {
        assert!(
            (value - expected).abs() <= MOVE_MAX,
            "{value}, expected {expected}"
        );
    }
}

#[test]
fn every_conversion_gets_its_own_points_back_however_they_lie_in_rows() {
    let (mut backend, codes) = loaded(&pictures());
    let clouds = [cloud(1, 700), cloud(2, 256), cloud(3, 9)];
    let wants = [Want::Logits, Want::LogitsAndColors, Want::Logits];
    let together: Vec<_> = (0..3)
        .map(|at| (&codes[at], clouds[at].as_slice(), wants[at]))
        .collect();
    // Three rows for the first, one full and one nearly empty for the others.
    let shared = asked(&mut backend, &together, 256);
    for ((&(codes, points, want), values), at) in together.iter().zip(&shared).zip(0..) {
        let alone = asked(
            &mut backend,
            &[(codes, points, Want::LogitsAndColors)],
            points.len(),
        );
        assert_near(&values.logits, &alone[0].logits);
        match want {
            Want::Logits => assert!(values.rgb.is_empty(), "{at}"),
            Want::LogitsAndColors => {
                assert_near(values.rgb.as_flattened(), alone[0].rgb.as_flattened());
            }
        }
    }
}

#[test]
fn blank_pictures_that_fill_a_batch_up_change_nothing_and_get_no_codes() {
    let pictures = pictures();
    let (mut backend, alone) = loaded(&pictures);
    backend.loaded_mut(0).warm.extend([1, 4]);
    let together: Vec<&[f32]> = pictures.iter().map(Vec::as_slice).collect();
    let filled_up = rows(&mut backend, &together);
    assert_eq!(filled_up.len(), 3);
    let points = cloud(4, 500);
    for (row, alone) in filled_up.iter().zip(&alone) {
        assert_eq!(row.size(), alone.size());
        let [row, alone] = [row, alone].map(|codes| {
            asked(
                &mut backend,
                &[(codes, points.as_slice(), Want::Logits)],
                points.len(),
            )
            .remove(0)
        });
        assert_near(&row.logits, &alone.logits);
    }
    let mattes = backend.matte(0, &together).unwrap().land().unwrap();
    assert_eq!(mattes.len(), 3);
    assert!(mattes.iter().all(|alpha| alpha.len() == 192 * 192));
    // A batch that is larger than what is warm is run as it is.
    assert_eq!(rows(&mut backend, &[together[0]; 5]).len(), 5);
}
