//! How much of a Mac's memory the GPU may wire: weights beyond that are refused, or make it swap.
//!
//! `sysctl iogpu.wired_limit_mb` is the limit where somebody has set it. 0 is the system's own, which is what
//! Metal calls `recommendedMaxWorkingSetSize`: about two thirds of the memory of Macs with up to 36 GiB, three
//! quarters of more, as MLX and llama.cpp print it when they start.

const MIB: u64 = 1 << 20;
/// Macs with up to so much memory give the GPU less of it.
const SMALL: u64 = 36 << 30;

/// Bytes that the GPU may wire on a Mac with so many bytes, whose limit is set to so many MiB; 0 for not set.
pub(super) fn wirable(total: u64, limit_mib: u64) -> u64 {
    match limit_mib {
        0 if total <= SMALL => total / 3 * 2,
        0 => total / 4 * 3,
        limit => limit.saturating_mul(MIB).min(total),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_the_systems_unless_somebody_has_set_it() {
        const GIB: u64 = 1 << 30;
        for (total, limit_mib, gib) in
            [(36, 0, 24), (64, 0, 48), (64, 57_344, 56), (64, 99_999, 64)]
        {
            assert_eq!(
                wirable(total * GIB, limit_mib),
                gib * GIB,
                "{total} {limit_mib}"
            );
        }
    }
}
