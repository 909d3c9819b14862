//! SentencePiece's `tokenizer.model`: a protobuf of pieces and settings.

use super::problem::TokenizerProblem;
use super::spm::{Piece, PieceKind, vocabulary};
use super::vocabulary::Vocabulary;

/// One field of a protobuf message.
enum Field<'a> {
    Varint(u64),
    Fixed32([u8; 4]),
    Fixed64,
    Bytes(&'a [u8]),
}

impl<'a> Field<'a> {
    fn bytes(&self) -> &'a [u8] {
        if let Self::Bytes(bytes) = self { bytes } else { &[] }
    }

    /// `int32` and enums: negative numbers are written with 64 bits.
    fn int(&self) -> i64 {
        if let Self::Varint(value) = self {
            value.cast_signed()
        } else {
            0
        }
    }
}

/// The fields of a message with their numbers, or `None` when it is damaged.
fn fields(mut message: &[u8]) -> Option<Vec<(u64, Field<'_>)>> {
    fn varint(bytes: &mut &[u8]) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = *bytes.split_off_first()?;
            value |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
    let mut fields = Vec::new();
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        let field = match tag & 7 {
            0 => Field::Varint(varint(&mut message)?),
            1 => {
                message.split_off(..8)?;
                Field::Fixed64
            }
            2 => {
                let len = usize::try_from(varint(&mut message)?).ok()?;
                Field::Bytes(message.split_off(..len)?)
            }
            5 => Field::Fixed32(message.split_off(..4)?.try_into().ok()?),
            _ => return None,
        };
        fields.push((tag >> 3, field));
    }
    Some(fields)
}

/// Settings of a model, with the defaults of `sentencepiece_model.proto`.
struct Settings {
    model_type: i64,
    space_is_suffix: bool,
    bos_id: i64,
    eos_id: i64,
    charsmap_bytes: usize,
    add_dummy_prefix: bool,
    remove_extra_whitespaces: bool,
    escape_whitespaces: bool,
}

impl Settings {
    fn new() -> Self {
        Self {
            model_type: 1,
            space_is_suffix: false,
            bos_id: 1,
            eos_id: 2,
            charsmap_bytes: 0,
            add_dummy_prefix: true,
            remove_extra_whitespaces: true,
            escape_whitespaces: true,
        }
    }

    fn trainer(&mut self, message: &[u8]) -> Option<()> {
        for (number, field) in fields(message)? {
            match number {
                3 => self.model_type = field.int(),
                24 => self.space_is_suffix = field.int() != 0,
                41 => self.bos_id = field.int(),
                42 => self.eos_id = field.int(),
                _ => {}
            }
        }
        Some(())
    }

    fn normalizer(&mut self, message: &[u8]) -> Option<()> {
        for (number, field) in fields(message)? {
            match number {
                2 => self.charsmap_bytes = field.bytes().len(),
                3 => self.add_dummy_prefix = field.int() != 0,
                4 => self.remove_extra_whitespaces = field.int() != 0,
                5 => self.escape_whitespaces = field.int() != 0,
                _ => {}
            }
        }
        Some(())
    }

    /// What the encoder does not do.
    fn unsupported(&self, place: &str) -> Vec<TokenizerProblem> {
        let kind = match self.model_type {
            1 => "Unigram",
            3 => "Word",
            4 => "Char",
            _ => "unknown",
        };
        let checks = [
            (
                self.model_type != 2,
                format!("the model type is {kind}; only BPE is supported"),
            ),
            (
                self.charsmap_bytes > 0,
                "it normalises characters (precompiled_charsmap), which is not supported".into(),
            ),
            (
                self.remove_extra_whitespaces,
                "remove_extra_whitespaces is not supported".into(),
            ),
            (
                !self.escape_whitespaces,
                "escape_whitespaces = false is not supported".into(),
            ),
            (
                self.space_is_suffix,
                "treat_whitespace_as_suffix is not supported".into(),
            ),
        ];
        let found = checks
            .into_iter()
            .filter_map(|(found, message)| found.then_some(message));
        found.map(|message| TokenizerProblem::new(place, message)).collect()
    }
}

/// Reads a model. BOS is put before a text unless the caller decides otherwise, as Llama's tokenizer does.
pub(super) fn read(model: &[u8], place: &str) -> Result<Vocabulary, Vec<TokenizerProblem>> {
    let damaged = |what: &str| {
        vec![TokenizerProblem::new(
            place,
            format!("not a SentencePiece model: {what} is damaged"),
        )]
    };
    let mut settings = Settings::new();
    let mut pieces = Vec::new();
    for (number, field) in fields(model).ok_or_else(|| damaged("the file"))? {
        match number {
            1 => pieces.push(piece(field.bytes()).ok_or_else(|| damaged(&format!("piece {}", pieces.len())))?),
            2 => settings.trainer(field.bytes()).ok_or_else(|| damaged("trainer_spec"))?,
            3 => settings
                .normalizer(field.bytes())
                .ok_or_else(|| damaged("normalizer_spec"))?,
            _ => {}
        }
    }
    let unsupported = settings.unsupported(place);
    if !unsupported.is_empty() {
        return Err(unsupported);
    }
    let mut vocabulary = vocabulary(&pieces, settings.add_dummy_prefix, place)?;
    let control = |id: i64| {
        let index = usize::try_from(id).ok()?;
        (pieces.get(index)?.kind == PieceKind::Control).then_some(index as u32)
    };
    vocabulary.bos = control(settings.bos_id);
    vocabulary.eos = control(settings.eos_id).into_iter().collect();
    vocabulary.before = vocabulary.bos.into_iter().collect();
    Ok(vocabulary)
}

fn piece(message: &[u8]) -> Option<Piece<'_>> {
    let mut piece = Piece {
        text: &[],
        score: 0.0,
        kind: PieceKind::Normal,
    };
    for (number, field) in fields(message)? {
        match (number, &field) {
            (1, Field::Bytes(text)) => piece.text = text,
            (2, Field::Fixed32(score)) => piece.score = f32::from_le_bytes(*score),
            (3, Field::Varint(_)) => piece.kind = PieceKind::from_number(field.int())?,
            _ => {}
        }
    }
    Some(piece)
}
