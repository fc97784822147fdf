//! What came of all views together.

use std::{collections::BTreeMap, time::Duration};

use super::run::Measured;
use crate::mesh::compare::Score;

/// How many of the worst are named.
const WORST_MAX: usize = 8;

/// Means over some views; those without a mesh count as [`Score::FAILED`].
#[derive(Debug, Clone, PartialEq)]
pub struct Means {
    pub views: usize,
    /// How many of them have no mesh.
    pub failed: usize,
    pub score: Score,
}

/// What came of a set.
#[derive(Debug, Clone)]
pub struct Summary<'a> {
    /// In the order of their names.
    pub categories: BTreeMap<&'a str, Means>,
    pub overall: Means,
    /// The least IoU first, at most eight.
    pub worst: Vec<&'a Measured>,
    /// Of all conversions; of an even number the mean of the middle two.
    pub took_median: Duration,
}

impl<'a> Summary<'a> {
    /// Sums up at least one view.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn of(measured: &'a [Measured]) -> Self {
        assert!(!measured.is_empty(), "a set has a view");
        let mut by_category: BTreeMap<&str, Vec<&Measured>> = BTreeMap::new();
        for each in measured {
            by_category
                .entry(&each.view.category)
                .or_default()
                .push(each);
        }
        let all: Vec<&Measured> = measured.iter().collect();
        let mut worst = all.clone();
        // Stable, so that equals stay in the set's order.
        worst.sort_by(|a, b| a.score.iou.total_cmp(&b.score.iou));
        worst.truncate(WORST_MAX);
        Self {
            categories: by_category
                .into_iter()
                .map(|(category, some)| (category, means(&some)))
                .collect(),
            overall: means(&all),
            worst,
            took_median: median(measured.iter().map(|each| each.took).collect()),
        }
    }
}

fn means(some: &[&Measured]) -> Means {
    let mean = |value: fn(&Score) -> f64| {
        some.iter().map(|each| value(&each.score)).sum::<f64>() / some.len() as f64
    };
    Means {
        views: some.len(),
        failed: some.iter().filter(|each| each.failure.is_some()).count(),
        score: Score {
            iou: mean(|score| score.iou),
            chamfer: mean(|score| score.chamfer),
            f_scores: [
                mean(|score| score.f_scores[0]),
                mean(|score| score.f_scores[1]),
            ],
            silhouette_iou: mean(|score| score.silhouette_iou),
            color_error: mean(|score| score.color_error),
        },
    }
}

fn median(mut all: Vec<Duration>) -> Duration {
    all.sort_unstable();
    let (low, high) = (all[(all.len() - 1) / 2], all[all.len() / 2]);
    (low + high) / 2
}

#[cfg(test)]
mod tests {
    use super::{super::set::KnownView, *};

    fn measured(name: &str, category: &str, iou: f64, took_ms: u64) -> Measured {
        let is_failed = iou == 0.0;
        Measured {
            view: KnownView {
                picture: String::new(),
                mesh: String::new(),
                azimuth: 0.0,
                elevation: 0.0,
                fov: 40.0,
                category: category.into(),
                name: name.into(),
                source: String::new(),
                licence: String::new(),
            },
            took: Duration::from_millis(took_ms),
            score: Score {
                iou,
                ..Score::FAILED
            },
            failure: is_failed.then(|| "nothing in it".into()),
        }
    }

    #[test]
    fn means_are_by_category_and_failures_count() {
        let all = [
            measured("a", "props", 0.6, 10),
            measured("b", "animals", 0.9, 40),
            measured("c", "props", 0.0, 30),
            measured("d", "props", 0.3, 20),
        ];
        let summary = Summary::of(&all);
        let categories: Vec<_> = summary.categories.keys().copied().collect();
        assert_eq!(categories, ["animals", "props"]);
        let props = &summary.categories["props"];
        assert_eq!((props.views, props.failed), (3, 1));
        assert!((props.score.iou - 0.3).abs() < 1e-12);
        assert!((summary.overall.score.iou - 0.45).abs() < 1e-12);
        assert_eq!((summary.overall.views, summary.overall.failed), (4, 1));
        let worst: Vec<_> = summary.worst.iter().map(|each| &*each.view.name).collect();
        assert_eq!(worst, ["c", "d", "a", "b"]);
        assert_eq!(summary.took_median, Duration::from_millis(25));
    }

    #[test]
    fn only_eight_of_the_worst_are_named() {
        let all: Vec<_> = (0..20)
            .map(|at| measured(&at.to_string(), "props", 1.0 - f64::from(at) / 40.0, 1))
            .collect();
        let summary = Summary::of(&all);
        assert_eq!(summary.worst.len(), 8);
        assert_eq!(summary.worst[0].view.name, "19");
    }
}
