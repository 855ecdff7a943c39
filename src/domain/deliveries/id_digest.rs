//! A **digest** of message ids: ranges of ids (**buckets**), each with the number of ids in it and the XOR of their
//! SHA-256 hashes. A receiver describes 100 ids in the space of five, and [`IdBucket::held`] computes from a bucket
//! which messages the receiver has.

use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::domain::{Invalid, MessageId, limits};

/// The XOR of SHA-256 hashes of ids, each hashed in its text form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IdHash([u64; 4]);

impl IdHash {
    /// The hash of one id.
    pub fn of(id: MessageId) -> IdHash {
        IdHash::from_bytes(Sha256::digest(id.to_string()).into())
    }

    /// The XOR of the hashes of `ids`.
    pub fn of_all(ids: impl IntoIterator<Item = MessageId>) -> IdHash {
        ids.into_iter().fold(IdHash::default(), |sum, id| sum.xor(IdHash::of(id)))
    }

    pub fn from_bytes(bytes: [u8; 32]) -> IdHash {
        let mut words = [0; 4];
        for (word, part) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *word = u64::from_be_bytes(*part);
        }
        IdHash(words)
    }

    pub fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (part, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(self.0) {
            *part = word.to_be_bytes();
        }
        bytes
    }

    fn xor(self, other: IdHash) -> IdHash {
        IdHash(std::array::from_fn(|word| self.0[word] ^ other.0[word]))
    }

    /// The position of the highest bit; `None`: no bit is set.
    fn highest(self) -> Option<(usize, u64)> {
        let word = self.0.iter().position(|word| *word != 0)?;
        Some((word, 1 << self.0[word].ilog2()))
    }

    fn has(self, (word, bit): (usize, u64)) -> bool {
        self.0[word] & bit != 0
    }
}

/// A range of ids, and a digest of those that a receiver has in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdBucket {
    pub first: MessageId,
    pub last: MessageId,
    pub count: u32,
    pub xor: IdHash,
}

/// A message in the range of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketMessage {
    pub id: MessageId,
    /// It counts as missing if the receiver does not have it. `false`: it is pending or deleted, and the receiver may
    /// have it or not.
    pub settled: bool,
}

impl IdBucket {
    /// Maximum messages for which [`held`](Self::held) can compute any selection. The hashes of so few messages are
    /// linearly independent (except with a probability below 2^-128), so only one selection has a given XOR.
    pub const SOLVABLE: usize = 128;

    /// Whether the bucket's range contains an id.
    pub fn contains(&self, id: MessageId) -> bool {
        (self.first..=self.last).contains(&id)
    }

    /// For each of `messages`, which are all that the receiver can have in this range: whether it has the message.
    /// `None`: there are too many messages, or the bucket counts ids that are not among them.
    pub fn held(&self, messages: &[BucketMessage]) -> Option<Vec<bool>> {
        let hashes: Vec<IdHash> = messages.iter().map(|message| IdHash::of(message.id)).collect();
        let fits = |held: &Vec<bool>| {
            let chosen = || hashes.iter().zip(held).filter(|(_, held)| **held).map(|(hash, _)| *hash);
            chosen().count() == self.count as usize && chosen().fold(IdHash::default(), IdHash::xor) == self.xor
        };
        let all = vec![true; messages.len()];
        let settled = messages.iter().map(|message| message.settled).collect();
        [all, settled].into_iter().find(fits).or_else(|| self.solve(&hashes).filter(fits))
    }

    /// The selection of `hashes` whose XOR is that of the bucket: Gaussian elimination over GF(2).
    fn solve(&self, hashes: &[IdHash]) -> Option<Vec<bool>> {
        if hashes.len() > IdBucket::SOLVABLE {
            return None;
        }
        // Sums of hashes. Each has a leading bit that no later sum has, and a bit mask of its terms.
        let mut basis: Vec<((usize, u64), IdHash, u128)> = Vec::with_capacity(hashes.len());
        let reduce =
            |basis: &[((usize, u64), IdHash, u128)], hash: IdHash, terms: u128| {
                basis.iter().fold((hash, terms), |(hash, terms), (lead, sum, of)| {
                    if hash.has(*lead) { (hash.xor(*sum), terms ^ of) } else { (hash, terms) }
                })
            };
        for (index, hash) in hashes.iter().enumerate() {
            let (rest, terms) = reduce(&basis, *hash, 1 << index);
            basis.push((rest.highest()?, rest, terms));
        }
        let (rest, terms) = reduce(&basis, self.xor, 0);
        (rest == IdHash::default()).then(|| (0..hashes.len()).map(|index| terms >> index & 1 == 1).collect())
    }
}

/// Disjoint buckets in ascending order; at most [`limits::DIGEST_BUCKETS`]. The receiver has no ids outside of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdDigest(Vec<IdBucket>);

impl IdDigest {
    /// Bytes of a stored bucket.
    const STORED: usize = 16 + 16 + 4 + 32;

    /// Checks and sorts the buckets; `field` names them in the error.
    ///
    /// # Errors
    /// The broken rule and the first bucket that breaks it.
    pub fn new(field: &str, mut buckets: Vec<IdBucket>) -> Result<IdDigest, Invalid> {
        if buckets.len() > limits::DIGEST_BUCKETS {
            let reason =
                format!("must be at most {} buckets: send the first ones with hasMore", limits::DIGEST_BUCKETS);
            return Err(Invalid::new(field, reason));
        }
        buckets.sort_unstable_by_key(|bucket| bucket.first);
        let wrong =
            |bucket: &IdBucket, rule: String| Err(Invalid::new(field, format!("bucket {}: {rule}", bucket.first)));
        for bucket in &buckets {
            let most = if bucket.first == bucket.last { 1 } else { limits::BUCKET_IDS };
            if bucket.first > bucket.last {
                return wrong(bucket, format!("last ({}) must not be smaller than first", bucket.last));
            }
            if !(1..=most).contains(&(bucket.count as usize)) {
                return wrong(bucket, format!("count must be 1 to {most}, got {}", bucket.count));
            }
        }
        match buckets.array_windows().find(|[one, next]| next.first <= one.last) {
            Some([one, next]) => wrong(next, format!("must not overlap the bucket {}", one.first)),
            None => Ok(IdDigest(buckets)),
        }
    }

    /// The bucket whose range contains an id.
    pub fn bucket_of(&self, id: MessageId) -> Option<&IdBucket> {
        let next = self.0.partition_point(|bucket| bucket.last < id);
        self.0.get(next).filter(|bucket| bucket.contains(id))
    }

    /// The greatest id.
    pub fn last(&self) -> Option<MessageId> {
        self.0.last().map(|bucket| bucket.last)
    }

    /// The stored form.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.len() * IdDigest::STORED);
        for bucket in &self.0 {
            bytes.extend_from_slice(bucket.first.0.as_bytes());
            bytes.extend_from_slice(bucket.last.0.as_bytes());
            bytes.extend_from_slice(&bucket.count.to_be_bytes());
            bytes.extend_from_slice(&bucket.xor.to_bytes());
        }
        bytes
    }

    /// Reads the stored form.
    pub fn from_bytes(bytes: &[u8]) -> IdDigest {
        let read = |stored: &[u8; IdDigest::STORED]| {
            let (first, rest) = stored.split_first_chunk::<16>()?;
            let (last, rest) = rest.split_first_chunk::<16>()?;
            let (count, xor) = rest.split_first_chunk::<4>()?;
            let id = |bytes: &[u8; 16]| MessageId(Uuid::from_bytes(*bytes));
            let xor = IdHash::from_bytes(*xor.first_chunk::<32>()?);
            Some(IdBucket { first: id(first), last: id(last), count: u32::from_be_bytes(*count), xor })
        };
        IdDigest(bytes.as_chunks::<{ IdDigest::STORED }>().0.iter().filter_map(read).collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::Time;

    fn ids(count: usize) -> Vec<MessageId> {
        (0..count).map(|n| MessageId::new(Time::from_micros(1_763_800_000_000_000 + n as i64 * 1_000))).collect()
    }

    fn bucket(range: &[MessageId], held: &[MessageId]) -> IdBucket {
        let (first, last) = (range[0], range[range.len() - 1]);
        IdBucket { first, last, count: held.len() as u32, xor: IdHash::of_all(held.iter().copied()) }
    }

    fn settled(ids: &[MessageId]) -> Vec<BucketMessage> {
        ids.iter().map(|id| BucketMessage { id: *id, settled: true }).collect()
    }

    /// The hash that receivers in other languages compute: `sha256sum` prints the same.
    #[test]
    fn an_id_is_hashed_as_text() {
        let id: MessageId = "msg_01kapvcrj2e8zvm4h6x0c5w9nd".parse().unwrap();
        assert_eq!(IdHash::of(id).to_bytes(), <[u8; 32]>::from(Sha256::digest(b"msg_01kapvcrj2e8zvm4h6x0c5w9nd")));
        assert_eq!(IdHash::of_all([id, id]), IdHash::default());
    }

    #[test]
    fn a_wide_bucket_tells_only_whether_it_is_equal() {
        let all = ids(IdBucket::SOLVABLE + 1);
        let mut messages = settled(&all);
        assert_eq!(bucket(&all, &all).held(&messages), Some(vec![true; all.len()]));
        assert_eq!(bucket(&all, &all[1..]).held(&messages), None);
        // The receiver has all but a pending message.
        messages[0].settled = false;
        assert!(bucket(&all, &all[1..]).held(&messages).is_some_and(|held| !held[0] && held[1]));
        assert_eq!(bucket(&all, &all[2..]).held(&messages), None);
        assert_eq!(
            bucket(&all[1..], &all[2..]).held(&settled(&all[1..])).map(|held| held[..2].to_vec()),
            Some(vec![false, true])
        );
    }

    #[test]
    fn a_digest_with_other_ids_or_another_count_is_not_explained() {
        let all = ids(12);
        let messages = settled(&all[..10]);
        assert_eq!(bucket(&all, &all[5..11]).held(&messages), None, "an id that is not among the messages");
        assert_eq!(IdBucket { count: 3, ..bucket(&all, &all[..4]) }.held(&messages), None);
        assert_eq!(IdBucket { count: 10, ..bucket(&all, &[]) }.held(&messages), None);
        assert_eq!(bucket(&all, &[]).held(&messages), Some(vec![false; 10]));
        assert_eq!(bucket(&all, &all[..1]).held(&[]), None);
    }

    #[test]
    fn buckets_are_checked_and_sorted() {
        let all = ids(9);
        let (one, two, three) =
            (bucket(&all[..3], &all[..2]), bucket(&all[3..6], &all[3..5]), bucket(&all[6..7], &all[6..7]));
        let digest = IdDigest::new("digest", vec![three, one, two]).unwrap();
        assert_eq!(digest.0, [one, two, three]);
        assert_eq!(IdDigest::from_bytes(&digest.to_bytes()), digest);
        assert_eq!(digest.last(), Some(all[6]));
        let found = |id: usize| digest.bucket_of(all[id]).map(|bucket| bucket.first);
        assert_eq!([0, 2, 3, 6, 7].map(found), [Some(all[0]), Some(all[0]), Some(all[3]), Some(all[6]), None]);
        let reason = |buckets: &[IdBucket]| IdDigest::new("digest", buckets.to_vec()).unwrap_err().reason;
        for (wrong, part) in [
            (IdBucket { first: all[2], last: all[1], ..one }, "must not be smaller than first"),
            (IdBucket { count: 0, ..one }, "count must be 1 to 1000, got 0"),
            (IdBucket { count: 1_001, ..one }, "count must be 1 to 1000, got 1001"),
            (IdBucket { count: 2, ..three }, "count must be 1 to 1, got 2"),
            (IdBucket { first: all[5], last: all[8], ..one }, &format!("must not overlap the bucket {}", all[3])),
        ] {
            let told = reason(&[wrong, two]);
            assert!(told.starts_with(&format!("bucket {}: ", wrong.first)) && told.contains(part), "{told}");
        }
        assert!(reason(&[one; limits::DIGEST_BUCKETS + 1]).contains("at most 3000 buckets"));
    }

    proptest! {
        /// Any selection of a bucket that is not too wide is found again, with pending and deleted messages among them.
        #[test]
        fn a_narrow_bucket_tells_which_ids_it_has(held in prop::collection::vec(any::<(bool, bool)>(), 1..=IdBucket::SOLVABLE)) {
            let all = ids(held.len());
            let has: Vec<MessageId> = all.iter().zip(&held).filter(|(_, held)| held.0).map(|(id, _)| *id).collect();
            let messages: Vec<BucketMessage> =
                all.iter().zip(&held).map(|(id, (_, settled))| BucketMessage { id: *id, settled: *settled }).collect();
            let found = bucket(&all, &has).held(&messages).expect("a solution");
            prop_assert_eq!(found, held.iter().map(|(held, _)| *held).collect::<Vec<_>>());
        }
    }
}
