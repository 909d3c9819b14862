//! Element types: of weights ([`DType`]) and of activations ([`ActType`]).

/// Rows of a packed matrix that are interleaved; one output row per SIMD lane.
pub const GROUP: usize = 16;

/// Everything the planner places starts on a multiple of this many bytes: a cache line, a 512-bit vector.
pub const ALIGN: usize = 64;

/// The registry of weight types: one line each, in the order of the discriminants. `registry!(each)` is `each! { lines }`.
///
/// A line has the variant, its name, which is also its file in [`crate::quant`], how its matmuls are made (`float`, or
/// `block` by block), ggml's id, a block's weights and bytes.
macro_rules! registry {
    ($each:ident) => {
        $each! {
            F32 f32 float 0 [1 4] "IEEE single.";
            F16 f16 float 1 [1 2] "IEEE half.";
            BF16 bf16 float 30 [1 2] "The upper half of an IEEE single.";
            Q8_0 q8_0 block 8 [32 34] "8.5 bits a weight, blocks of 32.";
            Q4_0 q4_0 block 2 [32 18] "4.5 bits a weight, blocks of 32.";
            Q4_1 q4_1 block 3 [32 20] "5 bits a weight, blocks of 32.";
            Q5_0 q5_0 block 6 [32 22] "5.5 bits a weight, blocks of 32.";
            Q5_1 q5_1 block 7 [32 24] "6 bits a weight, blocks of 32.";
            Q4K q4_k block 12 [256 144] "4.5 bits a weight, blocks of 256.";
            Q5K q5_k block 13 [256 176] "5.5 bits a weight, blocks of 256.";
            Q6K q6_k block 14 [256 210] "6.5625 bits a weight, blocks of 256.";
        }
    };
}
pub(crate) use registry;

macro_rules! types {
    ($($dtype:ident $name:ident $kind:ident $id:literal [$len:literal $bytes:literal] $about:literal;)*) => {
        /// How the elements of a weight matrix are stored. Names and block geometry are ggml's.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum DType {
            $(#[doc = $about] $dtype,)*
        }

        impl DType {
            /// Every type, in the order of the discriminants.
            pub const ALL: [DType; [$($id),*].len()] = [$(DType::$dtype),*];

            /// Weights in one block: what shares a scale.
            pub const fn block_len(self) -> usize {
                match self { $(DType::$dtype => $len,)* }
            }

            /// Bytes of one block.
            pub const fn block_bytes(self) -> usize {
                match self { $(DType::$dtype => $bytes,)* }
            }

            /// The name used in YAML, reports and messages.
            pub const fn name(self) -> &'static str {
                match self { $(DType::$dtype => stringify!($name),)* }
            }

            /// What it is, in a sentence.
            pub const fn about(self) -> &'static str {
                match self { $(DType::$dtype => $about,)* }
            }

            /// The id of ggml's type, as in GGUF files.
            pub const fn ggml_id(self) -> u32 {
                match self { $(DType::$dtype => $id,)* }
            }
        }
    };
}
registry!(types);

impl DType {
    /// Bytes of a row of `cols` weights. `cols` must be a multiple of [`DType::block_len`].
    pub const fn row_bytes(self, cols: usize) -> usize {
        cols / self.block_len() * self.block_bytes()
    }

    /// Bytes of a packed matrix: rows are padded to a whole [`GROUP`], nothing else is.
    pub const fn packed_bytes(self, rows: usize, cols: usize) -> usize {
        rows.div_ceil(GROUP) * GROUP * self.row_bytes(cols)
    }

    /// Whether a matmul with such weights reads activations quantised to [`ActType::Q8`].
    pub const fn quantised(self) -> bool {
        self.block_len() > 1
    }

    /// The type of that name.
    pub fn from_name(name: &str) -> Option<DType> {
        DType::ALL.into_iter().find(|d| d.name() == name)
    }
}

/// A row of [`ActType::Q8`]: where its parts are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Q8 {
    /// Elements of the row, a multiple of [`Q8::BLOCK`].
    pub cols: usize,
}

impl Q8 {
    /// Elements of a block.
    pub const BLOCK: usize = 32;
    /// Bytes of a block: those of its elements' high parts, then those of the low ones. A cache line.
    pub const BLOCK_BYTES: usize = 2 * Self::BLOCK;
    /// An element is `STEP * high + low`, both of them in -127..=127.
    pub const STEP: i32 = 255;
    /// The largest element.
    pub const MOST: i32 = Self::STEP * 127 + 127;

    /// The blocks.
    pub const fn blocks(self) -> usize {
        self.cols / Self::BLOCK
    }

    /// Where the scales begin, an f32 a block; the bytes of the blocks are before.
    pub const fn scales(self) -> usize {
        self.blocks() * Self::BLOCK_BYTES
    }

    /// Where the sums begin, an i32 a block.
    pub const fn sums(self) -> usize {
        self.scales() + 4 * self.blocks()
    }

    /// Bytes of the row.
    pub const fn bytes(self) -> usize {
        self.sums() + 4 * self.blocks()
    }
}

/// How activations are stored in the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum ActType {
    /// Token ids.
    U32,
    /// IEEE single.
    F32,
    /// IEEE half; KV caches only.
    F16,
    /// Rows quantised in blocks of 32 to whole numbers of fifteen bits and a sign, each in two bytes that the 8-bit dot
    /// products can take: see [`Q8`]. `x = scale * q`, `scale = max|x| / 32512`, rounded half away from zero; then come a
    /// scale and the sum of `q` for each block. Row length a multiple of 32.
    ///
    /// Eight bits alone are wrong by half a percent of the activations, and a deep model multiplies that; sixteen are
    /// wrong by 2^-16 of a block's largest, which no gate can see.
    Q8,
}

impl ActType {
    /// Bytes of a row of `cols` elements, rounded up to [`ALIGN`] so that every row starts on a cache line.
    /// One-column rows (token ids) are dense.
    pub const fn row_bytes(self, cols: usize) -> usize {
        let raw = match self {
            ActType::U32 | ActType::F32 => cols * 4,
            ActType::F16 => cols * 2,
            ActType::Q8 => Q8 { cols }.bytes(),
        };
        if cols == 1 { raw } else { raw.next_multiple_of(ALIGN) }
    }

    /// The name used in reports and messages.
    pub const fn name(self) -> &'static str {
        match self {
            ActType::U32 => "u32",
            ActType::F32 => "f32",
            ActType::F16 => "f16",
            ActType::Q8 => "q8",
        }
    }
}
