use std::fs::File;

use ck_kernels::dtype::ActType;
use ck_kernels::isa::Choices;
use ck_kernels::ops::Slot;

use super::*;
use crate::weights::Writer;

fn layout(weights: usize, arena: usize, segments: &'static [Segment]) -> Layout {
    Layout {
        model: "m",
        hash: [1; 32],
        arena_bytes: arena,
        weights_bytes: weights,
        context: 1,
        batch: 1,
        vocab: 2,
        ids: Slot {
            offset: arena - 128,
            cols: 1,
            act: ActType::U32,
        },
        logits: Slot {
            offset: arena - 64,
            cols: 2,
            act: ActType::F32,
        },
        kv_offset: arena - 128,
        kv_bytes: 0,
        segments,
        choices: Choices::all_from(8),
        steps: &[],
    }
}

fn weights(bytes: usize, hash: [u8; 32]) -> (Vec<u8>, WeightsFile) {
    let payload: Vec<u8> = (0..bytes).map(|i| (i * 7 % 253) as u8 + 1).collect();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.ckw");
    let mut writer = Writer::new(File::create(&path).unwrap()).unwrap();
    writer.write(&payload).unwrap();
    writer.finish("m", hash, &[]).unwrap();
    (payload, WeightsFile::open(&path, true).unwrap())
}

/// All of the arena.
fn bytes(arena: &Arena) -> &[u8] {
    // SAFETY: the whole arena, initialised, borrowed as long as it.
    unsafe { std::slice::from_raw_parts(arena.base().as_ptr(), arena.len()) }
}

#[test]
fn weights_are_in_place_and_the_rest_is_zero_then_dirty() {
    for n in [0, 1, 63, 64, 4095, 4096, 4097, 3 * 4096 + 100] {
        let (payload, file) = weights(n, [1; 32]);
        let layout = layout(n, n.next_multiple_of(64) + 10_048, &[]);
        let mut arena = Arena::new(&layout, &file).unwrap();
        assert_eq!(arena.base().as_ptr() as usize % 4096, 0);
        // Where huge pages are had for the asking, address and file offset agree modulo their size.
        if arena.mapped_bytes() > 0 {
            assert_eq!(arena.base().as_ptr() as usize % (2 << 20), crate::weights::PAGE);
        }
        assert_eq!(bytes(&arena)[..n], payload);
        assert!(bytes(&arena)[n..].iter().all(|&b| b == 0));
        arena.dirty(0xA5);
        assert_eq!(bytes(&arena)[..n], payload);
        assert!(bytes(&arena)[n..].iter().all(|&b| b == 0xA5));
    }
}

#[test]
fn segments_are_copied_to_their_places() {
    const SEGMENTS: &[Segment] = &[
        Segment {
            file_offset: 0,
            arena_offset: 640,
            bytes: 100,
        },
        Segment {
            file_offset: 128,
            arena_offset: 64,
            bytes: 64,
        },
        Segment {
            file_offset: 192,
            arena_offset: 128,
            bytes: 64,
        },
    ];
    let (payload, file) = weights(256, [1; 32]);
    let mut arena = Arena::new(&layout(256, 1024, SEGMENTS), &file).unwrap();
    for byte in [0, 0xFF] {
        let mut expected = vec![byte; 1024];
        for s in SEGMENTS {
            expected[s.arena_offset..s.arena_offset + s.bytes]
                .copy_from_slice(&payload[s.file_offset..s.file_offset + s.bytes]);
        }
        assert_eq!(bytes(&arena), expected);
        arena.dirty(0xFF);
    }
}

#[test]
fn other_weights_are_refused() {
    let (_, file) = weights(256, [2; 32]);
    let error = Arena::new(&layout(256, 1024, &[]), &file).unwrap_err();
    assert!(matches!(error, Error::WrongLayout { .. }));
    let text = error.to_string();
    assert!(
        text.contains("0101010101010101") && text.contains("0202020202020202"),
        "{text}"
    );
    let (_, file) = weights(192, [1; 32]);
    assert!(matches!(
        Arena::new(&layout(256, 1024, &[]), &file),
        Err(Error::Weights { .. })
    ));
}

#[test]
fn contradictory_layouts_are_refused() {
    const OVERLAP: &[Segment] = &[
        Segment {
            file_offset: 0,
            arena_offset: 0,
            bytes: 65,
        },
        Segment {
            file_offset: 0,
            arena_offset: 64,
            bytes: 64,
        },
    ];
    const OUTSIDE: &[Segment] = &[Segment {
        file_offset: 0,
        arena_offset: 1024,
        bytes: 64,
    }];
    const TOO_LONG: &[Segment] = &[Segment {
        file_offset: 200,
        arena_offset: 0,
        bytes: 64,
    }];
    const HUGE: &[Segment] = &[Segment {
        file_offset: usize::MAX,
        arena_offset: usize::MAX,
        bytes: 64,
    }];
    let good = layout(256, 1024, &[]);
    good.check().unwrap();
    let bad = [
        Layout {
            segments: OVERLAP,
            ..good
        },
        Layout {
            segments: OUTSIDE,
            ..good
        },
        Layout {
            segments: TOO_LONG,
            ..good
        },
        Layout { segments: HUGE, ..good },
        Layout {
            arena_bytes: 960,
            ..good
        },
        Layout { vocab: 3, ..good },
        Layout { context: 0, ..good },
        Layout { batch: 0, ..good },
        Layout {
            kv_offset: 832,
            kv_bytes: 256,
            ..good
        },
        Layout {
            kv_offset: 1,
            kv_bytes: 1,
            ..good
        },
        Layout {
            weights_bytes: 1000,
            ..good
        },
    ];
    for layout in bad {
        assert!(matches!(layout.check(), Err(Error::Layout { .. })), "{layout:?}");
    }
}
