//! Numbers that nobody else chooses at the same moment, and pauses made of them.

use std::time::Duration;

/// A generator (xorshift64*): good enough to spread out hosts, for masks and for keys of handshakes,
/// which are no secrets.
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub fn throw(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn mask(&mut self) -> [u8; 4] {
        let [a, b, c, d, ..] = self.throw().to_be_bytes();
        [a, b, c, d]
    }

    /// A key for a handshake of WebSockets: 16 bytes in base64.
    pub fn key(&mut self) -> String {
        let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut pick = |from: &[u8]| {
            let at = usize::try_from(self.throw() >> 40).unwrap_or(0) % from.len();
            char::from(from[at])
        };
        let mut key: String = (0..21).map(|_| pick(letters)).collect();
        // Of the last letter two bits count.
        key.push(pick(b"AQgw"));
        key + "=="
    }

    /// Anything up to `most`.
    pub fn within(&mut self, most: Duration) -> Duration {
        let most = u64::try_from(most.as_millis()).unwrap_or(u64::MAX).saturating_add(1);
        Duration::from_millis(self.throw() % most)
    }

    /// The pause before the next try after `failures` in a row: anything up to a limit that begins
    /// with a second and doubles up to `most`; never less than 200 ms.
    pub fn pause(&mut self, failures: u32, most: Duration) -> Duration {
        let limit = Duration::from_secs(1 << failures.clamp(1, 16).saturating_sub(1)).min(most);
        self.within(limit).max(Duration::from_millis(200))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_are_spread_out() {
        let mut dice = Dice::new(7);
        let most = Duration::from_secs(60);
        for (failures, limit) in [(0, 1), (1, 1), (2, 2), (5, 16), (7, 60), (u32::MAX, 60)] {
            let pauses: Vec<Duration> = (0..200).map(|_| dice.pause(failures, most)).collect();
            assert!(pauses.iter().all(|pause| pause.as_millis() >= 200));
            let longest = pauses.iter().max().unwrap();
            assert!(*longest <= Duration::from_secs(limit), "{failures}: {longest:?}");
            assert!(*longest > Duration::from_millis(limit * 800), "{failures}: {longest:?}");
        }
    }
}
