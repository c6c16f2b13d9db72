//! Clusters of similar questions, from which the diversity penalty is computed.
//!
//! Average linkage on the BLEU distances of [`super::bleu`], merging below 0.5, as in
//! scikit-learn's `AgglomerativeClustering(distance_threshold=0.5, metric="precomputed",
//! linkage="average")`, which calls SciPy. Among equal distances the result depends on the order of
//! merges, so the chain is walked in SciPy's order.

use thiserror::Error;

use super::bleu::{Corpus, distance_matrix};

/// Distance below which clusters merge.
pub const MERGE_BELOW: f64 = 0.5;
/// Maximum number of questions in one scope: their distances take 8·n² bytes, 2 GiB at this size.
pub const MAX_QUESTIONS: usize = 16_384;

/// A reason why questions cannot be clustered.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ClusterError {
    /// There are more questions than fit into memory as a matrix of distances.
    #[error(
        "{0} questions in one scope, but at most {MAX_QUESTIONS} can be clustered together; make the steps smaller or set the scope to \"group\""
    )]
    TooMany(usize),
}

/// A partition of questions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clusters {
    /// Cluster number of each question; clusters are numbered by their first question.
    pub labels: Vec<usize>,
    /// Number of questions in each cluster.
    pub sizes: Vec<usize>,
}

impl Clusters {
    /// Clusters questions by their BLEU distance.
    ///
    /// # Errors
    /// More than [`MAX_QUESTIONS`] questions.
    pub fn from_questions<S: AsRef<str>>(questions: &[S]) -> Result<Self, ClusterError> {
        let n = questions.len();
        if n > MAX_QUESTIONS {
            return Err(ClusterError::TooMany(n));
        }
        let merged_into = merge_by_chain(distance_matrix(&Corpus::new(questions)), n);
        Ok(Self::from_merges(&merged_into))
    }

    fn from_merges(merged_into: &[usize]) -> Self {
        let mut number = vec![usize::MAX; merged_into.len()];
        let (mut labels, mut sizes) = (Vec::with_capacity(merged_into.len()), Vec::new());
        for question in 0..merged_into.len() {
            let mut root = question;
            while merged_into[root] != root {
                root = merged_into[root];
            }
            if number[root] == usize::MAX {
                number[root] = sizes.len();
                sizes.push(0);
            }
            labels.push(number[root]);
            sizes[number[root]] += 1;
        }
        Self { labels, sizes }
    }

    /// Returns, for each question, the size of its cluster / number of questions.
    pub fn shares(&self) -> Vec<f64> {
        let total = self.labels.len() as f64;
        self.labels.iter().map(|&cluster| self.sizes[cluster] as f64 / total).collect()
    }
}

/// Merges clusters and returns, for each question, the question that represents the cluster it was
/// merged into, or itself.
///
/// The nearest-neighbour chain of SciPy's `nn_chain`: start at the first remaining cluster and step
/// to the nearest one until two are each other's nearest; merge these and continue from the chain's
/// previous cluster. Merges at 0.5 and above only steer the chain. The distance of a merged cluster
/// is a mean of two, so once no distance is below 0.5, none will ever be.
fn merge_by_chain(mut distance: Vec<f64>, n: usize) -> Vec<usize> {
    let mut merged_into: Vec<usize> = (0..n).collect();
    let mut size = vec![1usize; n];
    let mut active: Vec<usize> = (0..n).collect();
    let mut chain: Vec<usize> = Vec::new();
    let mut close = count_close(&distance, n);
    while close > 0 {
        let (x, y, nearest) = mutual_neighbours(&distance, n, &active, &mut chain);
        let (x, y) = (x.min(y), x.max(y));
        if nearest < MERGE_BELOW {
            merged_into[x] = y;
            close -= 1;
        }
        if let Ok(at) = active.binary_search(&x) {
            active.remove(at);
        }
        let (before, after) = merge_rows(&mut distance, n, &active, (x, y), (size[x], size[y]));
        close = close - before + after;
        size[y] += size[x];
    }
    merged_into
}

fn count_close(distance: &[f64], n: usize) -> usize {
    (0..n).map(|i| distance[i * n + i + 1..(i + 1) * n].iter().filter(|&&d| d < MERGE_BELOW).count()).sum()
}

/// Extends the chain until its last two clusters are each other's nearest, removes them and returns
/// them with their distance.
fn mutual_neighbours(distance: &[f64], n: usize, active: &[usize], chain: &mut Vec<usize>) -> (usize, usize, f64) {
    if chain.is_empty() {
        chain.push(active[0]);
    }
    loop {
        let x = chain[chain.len() - 1];
        let before = chain.len().checked_sub(2).map(|at| chain[at]);
        let row = &distance[x * n..(x + 1) * n];
        // Among equals the previous cluster is preferred, or the chain might cycle; then the first.
        let (mut y, mut nearest) = before.map_or((x, f64::INFINITY), |before| (before, row[before]));
        for &i in active {
            if row[i] < nearest && i != x {
                (y, nearest) = (i, row[i]);
            }
        }
        if Some(y) == before {
            chain.truncate(chain.len() - 2);
            return (x, y, nearest);
        }
        chain.push(y);
    }
}

/// Gives cluster y the distances of x and y together (Lance and Williams): (|x| d(x,i) + |y|
/// d(y,i)) / (|x| + |y|).
///
/// Returns how many distances were below the threshold before and how many are now.
fn merge_rows(
    distance: &mut [f64],
    n: usize,
    active: &[usize],
    (x, y): (usize, usize),
    (size_x, size_y): (usize, usize),
) -> (usize, usize) {
    let (size_x, size_y, size) = (size_x as f64, size_y as f64, (size_x + size_y) as f64);
    let (mut before, mut after) = (0, 0);
    let (head, tail) = distance.split_at_mut(y * n);
    let (row_x, row_y) = (&head[x * n..(x + 1) * n], &mut tail[..n]);
    for &i in active {
        if i != y {
            let mean = (size_x * row_x[i] + size_y * row_y[i]) / size;
            before += usize::from(row_x[i] < MERGE_BELOW) + usize::from(row_y[i] < MERGE_BELOW);
            after += usize::from(mean < MERGE_BELOW);
            row_y[i] = mean;
        }
    }
    for &i in active {
        if i != y {
            distance[i * n + y] = distance[y * n + i];
        }
    }
    (before, after)
}

#[cfg(test)]
mod tests {
    use super::{Clusters, merge_by_chain};

    #[test]
    fn similar_questions_share_a_cluster() {
        let questions = ["how many red balls are there", "how many red balls are there ?", "what is the time", ""];
        let clusters = Clusters::from_questions(&questions).unwrap();
        assert_eq!((&clusters.labels[..], &clusters.sizes[..]), (&[0, 0, 1, 2][..], &[2, 1, 1][..]));
        assert_eq!(clusters.shares(), [0.5, 0.5, 0.25, 0.25]);
        assert!(Clusters::from_questions::<&str>(&[]).unwrap().shares().is_empty());
        assert_eq!(Clusters::from_questions(&["only"]).unwrap().shares(), [1.0]);
    }

    #[test]
    fn empty_questions_stay_apart() {
        assert_eq!(Clusters::from_questions(&["", "", ""]).unwrap().sizes, [1, 1, 1]);
    }

    #[test]
    fn ties_follow_the_order_of_the_chain() {
        // 0-1 and 1-2 are equally near, 0-2 is far. The chain starts at 0, so 0 and 1 merge and 2
        // stays apart (mean 0.65).
        let distance = vec![0.0, 0.4, 0.9, 0.4, 0.0, 0.4, 0.9, 0.4, 0.0];
        assert_eq!(merge_by_chain(distance, 3), [1, 1, 2]);
    }
}
