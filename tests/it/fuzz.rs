//! What comes from strangers, and what is made for them, tried with bytes that nobody thought of: each target gets its
//! corpus as it is, and then mutations of it until its time is up. CONTRIBUTING tells how to let it run for longer.

mod corpus;
mod documents;
mod manifests;
mod meshes;
mod mutation;
mod pictures;
mod signatures;

use std::{
    any::Any,
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    time::{Duration, Instant},
};

use corpus::Corpus;
use mutation::Mutator;

/// How long each target is tried, in seconds.
const SECONDS: &str = "ORFEAS_FUZZ_SECONDS";
/// Makes a run the same as an earlier one, as far as it got: a number that a run has told.
const SEED: &str = "ORFEAS_FUZZ_SEED";
/// Set: inputs with an outcome that no earlier one had are put into the corpus.
const KEEP: &str = "ORFEAS_FUZZ_KEEP";
/// So that all targets together keep `make test` waiting for a few seconds.
const SECONDS_DEFAULT: f64 = 1.5;
/// No input may take longer, even in an unoptimised build on a machine that is busy with other tests.
const PROBE_MAX: Duration = Duration::from_secs(20);
/// What a mutation may grow to.
const BYTES_MAX: usize = 16 << 10;

/// Something that takes bytes.
struct Target<'a> {
    /// Its folder in `tests/corpus`.
    name: &'a str,
    /// Inputs from elsewhere in the repository.
    seeds: Vec<Vec<u8>>,
    /// What mutations put in between.
    words: &'a [&'a [u8]],
}

fn setting(name: &str) -> Option<String> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the tests' own, and no setting of the server"
    )]
    std::env::var(name).ok()
}

impl Target<'_> {
    /// Tries inputs until the time is up. `probe` says what became of one (a word, the same for inputs that take the same
    /// way), or which promise it broke.
    ///
    /// # Panics
    /// For a broken promise, a panic or a slow answer, with the file that the input was put into.
    #[expect(
        clippy::print_stdout,
        reason = "a test's own words, which the harness shows when asked"
    )]
    fn run(self, mut probe: impl FnMut(&[u8]) -> Result<String, String>) {
        let Self { name, seeds, words } = self;
        let seconds = setting(SECONDS).map_or(SECONDS_DEFAULT, |text| {
            text.parse().expect("a number of seconds")
        });
        let seed = setting(SEED).map_or_else(rand::random, |text| text.parse().expect("a number"));
        // On paper before anything runs: an abort leaves no time for it. Two tests may share a target.
        let paper = std::env::temp_dir().join(format!("orfeas-fuzz-{name}-{seed}.seed"));
        std::fs::write(&paper, format!("{SEED}={seed}\n"))
            .expect("the temporary folder takes files");
        let corpus = Corpus::of(name);
        let mut pool = corpus.inputs();
        pool.extend(seeds);
        assert!(!pool.is_empty(), "{name} has no inputs to begin with");

        let mut outcomes = BTreeSet::new();
        let mut tried = 0_u64;
        let mut attempt = |input: &[u8]| {
            tried += 1;
            match judged(input, &mut probe) {
                Ok(outcome) => outcomes.insert(outcome),
                Err(broken) => {
                    let path = corpus.put("found", input);
                    panic!(
                        "{name}: {broken}; the input is in {} ({SEED}={seed})",
                        path.display()
                    );
                }
            }
        };
        for input in &pool {
            attempt(input);
        }
        let mut mutator = Mutator::new(seed, words, BYTES_MAX);
        let since = Instant::now();
        while since.elapsed().as_secs_f64() < seconds {
            let input = mutator.mutated(&pool);
            // A new outcome is a new place to go on from.
            if attempt(&input) {
                if setting(KEEP).is_some() {
                    corpus.put("kept", &input);
                }
                pool.push(input);
            }
        }
        let count = outcomes.len();
        println!("{name}: {tried} inputs, {count} outcomes, {SEED}={seed}");
        assert!(count > 1, "{name}: all inputs ended alike: {outcomes:?}");
        std::fs::remove_file(paper).expect("it was written");
    }
}

fn judged(
    input: &[u8],
    probe: &mut impl FnMut(&[u8]) -> Result<String, String>,
) -> Result<String, String> {
    let since = Instant::now();
    let outcome = catch_unwind(AssertUnwindSafe(|| probe(input)))
        .unwrap_or_else(|panic| Err(format!("it panicked: {}", words_of(&*panic))))?;
    match since.elapsed() {
        took if took > PROBE_MAX => Err(format!("it took {took:?}")),
        _ => Ok(outcome),
    }
}

fn words_of(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_default()
}

/// An outcome without what differs from input to input: numbers, and what is repeated of the input in quotes.
fn plain(text: impl ToString) -> String {
    let text = text.to_string();
    let line = text.lines().next().unwrap_or_default();
    let unquoted = line.split(['`', '"', '\'']).step_by(2);
    let kept = unquoted
        .flat_map(str::chars)
        .filter(|character| !character.is_ascii_digit());
    kept.take(80).collect()
}

/// Files of the repository.
fn files(folder: &str, ending: &str) -> Vec<Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().ends_with(ending))
        .collect();
    paths.sort();
    paths
        .iter()
        .map(|path| std::fs::read(path).unwrap())
        .collect()
}

/// The harness finds what is wrong: a panic, a broken promise, and each behind a mutation or two.
#[test]
fn what_is_wrong_is_found() {
    let found = catch_unwind(|| {
        let target = Target {
            name: "self-test",
            seeds: vec![b"a chair".to_vec()],
            words: &[b"bomb"],
        };
        target.run(|input| {
            let is_bomb = input.windows(4).any(|window| window == b"bomb");
            assert!(!is_bomb, "boom");
            Ok(input.len().to_string())
        });
    });
    let message = words_of(&*found.expect_err("a word of the dictionary is soon tried"));
    let (said, rest) = message.split_once("; the input is in ").unwrap();
    assert_eq!(said, "self-test: it panicked: boom");
    let path = PathBuf::from(rest.split_once(" (").unwrap().0);
    let input = std::fs::read(&path).unwrap();
    assert!(input.windows(4).any(|window| window == b"bomb"));
    // With what `KEEP` may have put beside it.
    std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
}
