//! The share of a Mac's memory that the GPU may wire: weights beyond it are refused, or make the Mac swap.
//!
//! `sysctl iogpu.wired_limit_mb` is the limit if a user has set one. 0 stands for the system's own, Metal's
//! `recommendedMaxWorkingSetSize`: about two thirds of the memory of Macs with up to 36 GiB, three quarters of
//! more, as MLX and llama.cpp print it when they start.

const MIB: u64 = 1 << 20;
/// Macs with up to this much memory give the GPU a smaller share.
const SMALL: u64 = 36 << 30;

/// Bytes that the GPU may wire on a Mac with `total` bytes whose limit is set to `limit_mib`; 0 for not set.
pub fn wirable(total: u64, limit_mib: u64) -> u64 {
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
