//! The cipher of PM2's old transporter: AES-256-CBC with PKCS#7, as hex text.
//!
//! Key and IV come from the secret by OpenSSL's old derivation: MD5, one round, no salt. It is weak
//! (the IV is always the same, nothing is authenticated, all can be played again): for old back ends
//! on networks that are trusted. Sources: RFC 1321, FIPS 197; known answers of Node's `createCipher`.

/// One key, expanded.
pub struct Cipher {
    rounds: [[u8; 16]; 15],
    iv: [u8; 16],
    /// The substitution, and the way back.
    boxes: [[u8; 256]; 2],
}

/// Without the key.
impl std::fmt::Debug for Cipher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cipher")
    }
}

impl Cipher {
    #[must_use]
    pub fn new(secret: &str) -> Self {
        let first = md5(secret.as_bytes());
        let second = md5(&[&first, secret.as_bytes()].concat());
        let iv = md5(&[&second, secret.as_bytes()].concat());
        let boxes = boxes();
        let mut words = [[0_u8; 4]; 60];
        for (word, bytes) in words.iter_mut().zip([first, second].concat().chunks_exact(4)) {
            word.copy_from_slice(bytes);
        }
        let mut constant = 1_u8;
        for at in 8..60 {
            let mut word = words[at - 1];
            if at % 8 == 0 {
                word.rotate_left(1);
                word = word.map(|byte| boxes[0][usize::from(byte)]);
                word[0] ^= constant;
                constant = double(constant);
            } else if at % 8 == 4 {
                word = word.map(|byte| boxes[0][usize::from(byte)]);
            }
            for (byte, before) in word.iter_mut().zip(words[at - 8]) {
                *byte ^= before;
            }
            words[at] = word;
        }
        let mut rounds = [[0; 16]; 15];
        for (round, words) in rounds.iter_mut().zip(words.chunks_exact(4)) {
            round.copy_from_slice(words.as_flattened());
        }
        Self { rounds, iv, boxes }
    }

    /// `plain` ciphered, as hex text.
    #[must_use]
    pub fn encrypt(&self, plain: &[u8]) -> String {
        let mut bytes = plain.to_vec();
        let padding = 16 - plain.len() % 16;
        bytes.resize(plain.len() + padding, u8::try_from(padding).unwrap_or(16));
        let mut last = self.iv;
        let mut hex = String::with_capacity(bytes.len() * 2);
        for block in bytes.as_chunks::<16>().0 {
            last = self.forward(xor(*block, &last));
            for byte in last {
                for digit in [byte >> 4, byte & 15] {
                    hex.push(char::from_digit(digit.into(), 16).unwrap_or('0'));
                }
            }
        }
        hex
    }

    /// What hex text says; `None`: it was not ciphered with this key.
    #[must_use]
    pub fn decrypt(&self, hex: &str) -> Option<Vec<u8>> {
        let digits = hex.as_bytes();
        if digits.is_empty() || !digits.len().is_multiple_of(32) {
            return None;
        }
        let digit = |byte: u8| u8::try_from(char::from(byte).to_digit(16)?).ok();
        let mut bytes = Vec::with_capacity(digits.len() / 2);
        for pair in digits.as_chunks::<2>().0 {
            bytes.push(digit(pair[0])? << 4 | digit(pair[1])?);
        }
        let mut last = self.iv;
        for block in bytes.as_chunks_mut::<16>().0 {
            let ciphered = *block;
            *block = xor(self.backward(ciphered), &last);
            last = ciphered;
        }
        let padding = usize::from(*bytes.last()?);
        let length = bytes.len().checked_sub(padding)?;
        let is_padding = (1..=16).contains(&padding)
            && bytes.get(length..)?.iter().all(|&byte| usize::from(byte) == padding);
        bytes.truncate(length);
        is_padding.then_some(bytes)
    }

    fn forward(&self, block: [u8; 16]) -> [u8; 16] {
        let mut state = xor(block, &self.rounds[0]);
        for (at, key) in self.rounds.iter().enumerate().skip(1) {
            let substituted = state.map(|byte| self.boxes[0][usize::from(byte)]);
            // Row r goes r columns to the left.
            for (to, byte) in state.iter_mut().enumerate() {
                *byte = substituted[(to + 4 * (to % 4)) % 16];
            }
            if at < 14 {
                mix(&mut state, [2, 3, 1, 1]);
            }
            state = xor(state, key);
        }
        state
    }

    fn backward(&self, block: [u8; 16]) -> [u8; 16] {
        let mut state = block;
        for (at, key) in self.rounds.iter().enumerate().skip(1).rev() {
            state = xor(state, key);
            if at < 14 {
                mix(&mut state, [14, 11, 13, 9]);
            }
            let shifted = state;
            for (to, byte) in shifted.iter().enumerate() {
                state[(to + 4 * (to % 4)) % 16] = self.boxes[1][usize::from(*byte)];
            }
        }
        xor(state, &self.rounds[0])
    }
}

fn xor(mut block: [u8; 16], with: &[u8; 16]) -> [u8; 16] {
    for (byte, with) in block.iter_mut().zip(with) {
        *byte ^= with;
    }
    block
}

/// Twice a number of GF(2^8).
fn double(number: u8) -> u8 {
    (number << 1) ^ (if number & 0x80 == 0 { 0 } else { 0x1b })
}

fn times(mut number: u8, mut factor: u8) -> u8 {
    let mut product = 0;
    while factor > 0 {
        if factor & 1 == 1 {
            product ^= number;
        }
        number = double(number);
        factor >>= 1;
    }
    product
}

fn mix(state: &mut [u8; 16], row: [u8; 4]) {
    for column in state.as_chunks_mut::<4>().0 {
        let before = *column;
        for (at, byte) in column.iter_mut().enumerate() {
            let terms =
                before.iter().enumerate().map(|(from, &it)| times(it, row[(from + 4 - at) % 4]));
            *byte = terms.fold(0, |sum, term| sum ^ term);
        }
    }
}

/// The substitution: the inverse in GF(2^8), then an affine map.
fn boxes() -> [[u8; 256]; 2] {
    let mut boxes = [[0; 256]; 2];
    // p runs through all numbers but 0 as powers of 3, q through their inverses.
    let (mut p, mut q) = (1_u8, 1_u8);
    loop {
        p ^= double(p);
        for shift in [1, 2, 4] {
            q ^= q << shift;
        }
        if q & 0x80 != 0 {
            q ^= 0x09;
        }
        let turned = [1, 2, 3, 4].into_iter().fold(q, |sum, by| sum ^ q.rotate_left(by));
        boxes[0][usize::from(p)] = turned ^ 0x63;
        if p == 1 {
            break;
        }
    }
    boxes[0][0] = 0x63;
    let forward = boxes[0];
    for (from, to) in (0..=255).zip(forward) {
        boxes[1][usize::from(to)] = from;
    }
    boxes
}

fn md5(text: &[u8]) -> [u8; 16] {
    let mut bytes = text.to_vec();
    bytes.push(0x80);
    while bytes.len() % 64 != 56 {
        bytes.push(0);
    }
    let bits = u64::try_from(text.len()).unwrap_or(0).wrapping_mul(8);
    bytes.extend_from_slice(&bits.to_le_bytes());
    let mut state = [0x6745_2301_u32, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
    for block in bytes.as_chunks::<64>().0 {
        let [mut a, mut b, mut c, mut d] = state;
        for (at, constant) in SINES.into_iter().enumerate() {
            let (mixed, word) = match at / 16 {
                0 => ((b & c) | (!b & d), at),
                1 => ((d & b) | (!d & c), 5 * at + 1),
                2 => (b ^ c ^ d, 3 * at + 5),
                _ => (c ^ (b | !d), 7 * at),
            };
            let word = u32::from_le_bytes(block.as_chunks::<4>().0[word % 16]);
            let sum = a.wrapping_add(mixed).wrapping_add(constant).wrapping_add(word);
            (a, d, c) = (d, c, b);
            b = b.wrapping_add(sum.rotate_left(TURNS[at / 16][at % 4]));
        }
        for (state, more) in state.iter_mut().zip([a, b, c, d]) {
            *state = state.wrapping_add(more);
        }
    }
    let mut digest = [0; 16];
    for (bytes, word) in digest.as_chunks_mut::<4>().0.iter_mut().zip(state) {
        *bytes = word.to_le_bytes();
    }
    digest
}

const TURNS: [[u32; 4]; 4] = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];

/// The integer part of 2^32 |sin(n)|, n = 1 to 64.
#[rustfmt::skip]
const SINES: [u32; 64] = [
    0xd76a_a478, 0xe8c7_b756, 0x2420_70db, 0xc1bd_ceee, 0xf57c_0faf, 0x4787_c62a, 0xa830_4613, 0xfd46_9501,
    0x6980_98d8, 0x8b44_f7af, 0xffff_5bb1, 0x895c_d7be, 0x6b90_1122, 0xfd98_7193, 0xa679_438e, 0x49b4_0821,
    0xf61e_2562, 0xc040_b340, 0x265e_5a51, 0xe9b6_c7aa, 0xd62f_105d, 0x0244_1453, 0xd8a1_e681, 0xe7d3_fbc8,
    0x21e1_cde6, 0xc337_07d6, 0xf4d5_0d87, 0x455a_14ed, 0xa9e3_e905, 0xfcef_a3f8, 0x676f_02d9, 0x8d2a_4c8a,
    0xfffa_3942, 0x8771_f681, 0x6d9d_6122, 0xfde5_380c, 0xa4be_ea44, 0x4bde_cfa9, 0xf6bb_4b60, 0xbebf_bc70,
    0x289b_7ec6, 0xeaa1_27fa, 0xd4ef_3085, 0x0488_1d05, 0xd9d4_d039, 0xe6db_99e5, 0x1fa2_7cf8, 0xc4ac_5665,
    0xf429_2244, 0x432a_ff97, 0xab94_23a7, 0xfc93_a039, 0x655b_59c3, 0x8f0c_cc92, 0xffef_f47d, 0x8584_5dd1,
    0x6fa8_7e4f, 0xfe2c_e6e0, 0xa301_4314, 0x4e08_11a1, 0xf753_7e82, 0xbd3a_f235, 0x2ad7_d2bb, 0xeb86_d391,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn digests_are_those_of_rfc_1321() {
        assert_eq!(hex(&md5(b"")), "d41d8cd98f00b204e9800998ecf8427e");
        assert_eq!(hex(&md5(b"message digest")), "f96b697d7cb7938d525a2f31aaf161d0");
        let long =
            b"12345678901234567890123456789012345678901234567890123456789012345678901234567890";
        assert_eq!(hex(&md5(long)), "57edf4a22be3c955ac49da2e2107b67a");
    }

    #[test]
    fn a_block_is_ciphered_as_in_node() {
        let cipher = Cipher::new("secret");
        assert_eq!(hex(&cipher.iv), "e8c80b4b831fbb64b0d5c6c8499e541a");
        let key = "5ebe2294ecd0e0f08eab7690d2a6ee6926ae5cc854e36b6bdfca366848dea6bb";
        assert_eq!(hex(cipher.rounds[..2].as_flattened()), key);
        assert_eq!(cipher.encrypt(b"{\"a\":1}"), "2173069f8a8326c14051bbc958f1a284");
        assert_eq!(cipher.decrypt("2173069f8a8326c14051bbc958f1a284").unwrap(), b"{\"a\":1}");
    }

    #[test]
    fn every_length_comes_back() {
        let cipher = Cipher::new("\u{e9}");
        for length in 0..70 {
            let plain: Vec<u8> = (0..length).collect();
            assert_eq!(cipher.decrypt(&cipher.encrypt(&plain)), Some(plain));
        }
    }

    #[test]
    fn what_was_not_ciphered_with_the_key_is_nothing() {
        let cipher = Cipher::new("secret");
        let other = Cipher::new("another key").encrypt(b"{\"a\":1}");
        for text in ["", "zz", "2173", &"zz".repeat(16), &other, &"\u{e9}".repeat(16)] {
            assert_eq!(cipher.decrypt(text), None, "{text}");
        }
    }
}
