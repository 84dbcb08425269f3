//! HyperLogLog: how many different members there were, in 16 KiB, with a standard error of 0.81 %.
//!
//! 2^14 registers of one byte. A member's highest 14 bits choose a register, which keeps the highest rank seen: 1 + the
//! number of leading zeros in the next 50 bits, at most 51. The estimate is Ertl's improved raw estimator (Otmar Ertl,
//! "New cardinality estimation algorithms for HyperLogLog sketches", arXiv:1702.01284, algorithm 6): unbiased over the
//! whole range, without empirical constants.
//!
//! 1. Registers depend on the set of members only, not on their order; merging is the register-wise maximum.
//! 2. The estimate uses IEEE additions, multiplications, divisions and square roots alone, so all machines agree.
//! 3. Our own code and bytes: no library's version can change a stored sketch.

const PRECISION: u32 = 14;
/// Number of registers, and the bytes of a sketch.
pub const REGISTERS: usize = 1 << PRECISION;
/// Bits that a rank is taken from.
const RANK_BITS: u32 = 64 - PRECISION;
const RANK_MAX: u8 = RANK_BITS as u8 + 1;
/// 1 / (2 ln 2).
const ALPHA_INFINITY: f64 = 0.721_347_520_444_481_7;

/// A sketch of a set of members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hll {
    registers: [u8; REGISTERS],
}

impl Hll {
    /// The sketch of the empty set.
    pub fn new() -> Self {
        Self { registers: [0; REGISTERS] }
    }

    /// From stored registers; None if one is out of range.
    pub fn from_registers(registers: &[u8; REGISTERS]) -> Option<Self> {
        registers.iter().all(|rank| *rank <= RANK_MAX).then_some(Self { registers: *registers })
    }

    /// For storing: one byte each, 0 to 51.
    pub fn registers(&self) -> &[u8; REGISTERS] {
        &self.registers
    }

    /// Adds a member, an evenly spread hash.
    pub fn insert(&mut self, member: u128) {
        let hash = (member >> 64) as u64;
        let register = &mut self.registers[(hash >> RANK_BITS) as usize];
        let rank = ((hash << PRECISION).leading_zeros().min(RANK_BITS) + 1) as u8;
        *register = rank.max(*register);
    }

    /// Adds every member of `other`.
    pub fn merge(&mut self, other: &Hll) {
        for (register, more) in self.registers.iter_mut().zip(&other.registers) {
            *register = (*register).max(*more);
        }
    }

    /// About how many different members were added.
    pub fn estimate(&self) -> u64 {
        let mut ranks = [0u32; RANK_MAX as usize + 1];
        for rank in &self.registers {
            ranks[usize::from(*rank)] += 1;
        }
        let m = REGISTERS as f64;
        let mut z = m * tau(1.0 - f64::from(ranks[usize::from(RANK_MAX)]) / m);
        for count in ranks[1..usize::from(RANK_MAX)].iter().rev() {
            z = 0.5 * (z + f64::from(*count));
        }
        z += m * sigma(f64::from(ranks[0]) / m);
        (ALPHA_INFINITY * m * m / z).round() as u64
    }
}

impl Default for Hll {
    fn default() -> Self {
        Self::new()
    }
}

/// x + Σ x^(2^k) 2^(k-1): the correction for registers never hit.
fn sigma(mut x: f64) -> f64 {
    if x >= 1.0 {
        return f64::INFINITY;
    }
    let (mut weight, mut sum) = (1.0, x);
    loop {
        x *= x;
        let before = sum;
        sum += x * weight;
        weight += weight;
        if sum <= before {
            return sum;
        }
    }
}

/// (1 - x - Σ (1 - x^(2^-k))² 2^-k) / 3: the correction for registers at their end.
fn tau(mut x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return 0.0;
    }
    let (mut weight, mut sum) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = sum;
        weight *= 0.5;
        sum -= (1.0 - x) * (1.0 - x) * weight;
        if sum >= before {
            return sum / 3.0;
        }
    }
}

#[cfg(test)]
mod tests;
