//! Decoders and bodies, in whatever pieces these arrive.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use http::HeaderValue;
use proptest::prelude::*;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use super::*;

const LIMIT: usize = 256 * 1024;

fn decoder(codings: &[&str]) -> Result<Option<Decoder>, ApiError> {
    let mut headers = HeaderMap::new();
    for coding in codings {
        headers.append(CONTENT_ENCODING, HeaderValue::from_str(coding).unwrap());
    }
    Decoder::of(&headers, LIMIT)
}

fn packed(coding: &str, text: &[u8]) -> Vec<u8> {
    let level = Compression::default();
    match coding {
        "gzip" => {
            let mut encoder = GzEncoder::new(Vec::new(), level);
            encoder.write_all(text).unwrap();
            encoder.finish().unwrap()
        }
        "deflate" => {
            let mut encoder = ZlibEncoder::new(Vec::new(), level);
            encoder.write_all(text).unwrap();
            encoder.finish().unwrap()
        }
        "raw deflate" => {
            let mut encoder = DeflateEncoder::new(Vec::new(), level);
            encoder.write_all(text).unwrap();
            encoder.finish().unwrap()
        }
        _ => compress_to_vec(text, CompressionLevel::Fastest),
    }
}

/// A decoded body that arrives in pieces of `size`.
fn decode(codings: &[&str], body: &[u8], size: usize) -> Result<Vec<u8>, ApiError> {
    let mut decoder = decoder(codings)?.unwrap();
    let mut text = Vec::new();
    for piece in body.chunks(size) {
        decoder.push(piece);
        while let Some(decoded) = decoder.next(false)? {
            assert!(decoded.len() <= PIECE, "{}", decoded.len());
            text.extend_from_slice(&decoded);
        }
    }
    while let Some(decoded) = decoder.next(true)? {
        text.extend_from_slice(&decoded);
    }
    Ok(text)
}

/// Long enough for several blocks and windows, and hardly like itself.
fn long() -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(7);
    let mut words = std::iter::repeat_with(|| random.u16(..).to_string());
    let mut text = String::new();
    while text.len() < 200_000 {
        text += &words.next().unwrap();
    }
    text.into_bytes()
}

#[test]
fn every_coding_is_decoded_however_it_is_cut() {
    for coding in ["gzip", "deflate", "raw deflate", "zstd"] {
        let header = coding.trim_start_matches("raw ");
        for text in [b"".to_vec(), b"{\"model\":\"alpha\"}".to_vec(), long()] {
            let body = packed(coding, &text);
            for size in [1, 7, 1000, usize::MAX] {
                if size == 1 && body.len() > 1000 {
                    continue;
                }
                let decoded = decode(&[header], &body, size).unwrap();
                assert!(
                    decoded == text,
                    "{coding}, {} in pieces of {size}",
                    text.len()
                );
            }
        }
    }
}

#[test]
fn codings_in_one_another_are_undone_from_the_last_on() {
    let text = long();
    let body = packed("deflate", &packed("zstd", &packed("gzip", &text)));
    for codings in [
        &["gzip, zstd, deflate"][..],
        &["gzip", "ZSTD , identity", "", "deflate"],
        &["x-gzip", "zstd", "deflate"],
    ] {
        assert!(decode(codings, &body, 1000).unwrap() == text, "{codings:?}");
    }
    assert!(decoder(&["identity"]).unwrap().is_none());
}

#[test]
fn several_members_and_frames_are_one_body() {
    let skipped = [0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
    let empty = [0x5f, 0x2a, 0x4d, 0x18, 0, 0, 0, 0];
    for (coding, between) in [
        ("gzip", &[][..]),
        ("zstd", &[]),
        ("zstd", &skipped),
        ("zstd", &empty),
    ] {
        let body = [&packed(coding, b"one "), between, &packed(coding, b"two")].concat();
        for size in 1..body.len() {
            assert_eq!(decode(&[coding], &body, size).unwrap(), b"one two");
        }
    }
}

#[test]
fn what_the_hub_does_not_read_is_named() {
    let named = ["br", "gzip, br", "gzip,gzip,gzip,gzip", "a\tb"].map(|codings| {
        let error = decoder(&[codings]).map(drop).unwrap_err();
        format!("{} {error}", error.status)
    });
    insta::assert_snapshot!(named.join("\n"), @r"
    415 The request body has the content coding `br`, which the hub does not read. Send it as it is, or in gzip, deflate or zstd.
    415 The request body has the content coding `br`, which the hub does not read. Send it as it is, or in gzip, deflate or zstd.
    415 The request body has the content coding `gzip,gzip,gzip,gzip`, which the hub does not read. Send it as it is, or in gzip, deflate or zstd.
    415 The request body has the content coding `a\tb`, which the hub does not read. Send it as it is, or in gzip, deflate or zstd.
    ");
}

#[test]
fn more_than_the_limit_is_refused_before_it_is_there() {
    let bomb = vec![b' '; 16 * LIMIT];
    let often = ["gzip, gzip", "gzip, deflate", "zstd, gzip"];
    for codings in ["gzip", "deflate", "zstd"].iter().chain(&often) {
        let mut body = bomb.clone();
        for coding in codings.split(", ") {
            body = packed(coding, &body);
        }
        let error = decode(&[codings], &body, usize::MAX).unwrap_err();
        assert_eq!(error.status, 413, "{codings}");
    }
}

#[test]
fn a_body_that_is_cut_or_another_is_refused() {
    let text = long();
    for coding in ["gzip", "deflate", "zstd"] {
        let whole = packed(coding, &text);
        for cut in [0, 1, 5, 9, 100, whole.len() / 2, whole.len() - 1] {
            let error = decode(&[coding], &whole[..cut], usize::MAX).unwrap_err();
            assert_eq!(error.status, 400, "{coding} cut at {cut}");
        }
        let error = decode(&[coding], b"{\"model\":\"alpha\"}", 5).unwrap_err();
        let start = format!(
            "The request body could not be read: it is not in {coding}, as its head says: "
        );
        assert!(error.message.starts_with(&start), "{error}");
        let followed = [&whole[..], b"more"].concat();
        assert!(decode(&[coding], &followed, 1000).is_err(), "{coding}");
    }
}

#[test]
fn a_frame_that_wants_much_memory_is_refused() {
    // A window of 2 GiB, and one of 1 GiB that is the content itself.
    for frame in [
        &[0x28, 0xb5, 0x2f, 0xfd, 0, 0xa8][..],
        &[0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0, 0, 0, 0x40],
    ] {
        assert_eq!(
            decode(&["zstd"], frame, usize::MAX).unwrap_err().status,
            400
        );
    }
}

proptest! {
    #[test]
    fn whatever_comes_is_decoded_or_refused_and_cuts_change_nothing(
        coding in prop_oneof![Just("gzip"), Just("deflate"), Just("zstd")],
        text in prop::collection::vec(any::<u8>(), 0..300),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        size in 1usize..50,
    ) {
        let mut body = packed(coding, &text);
        for (at, byte) in flips {
            let at = at.index(body.len());
            body[at] = byte;
        }
        let whole = decode(&[coding], &body, usize::MAX).map_err(|error| error.status);
        let cut = decode(&[coding], &body, size).map_err(|error| error.status);
        prop_assert_eq!(whole, cut);
    }
}
