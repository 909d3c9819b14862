//! Element types: of weights ([`DType`]) and of activations ([`ActType`]).

/// Rows of a packed matrix that are interleaved; one output row per SIMD lane.
pub const GROUP: usize = 16;

/// Everything the planner places starts on a multiple of this many bytes: a cache line, a 512-bit vector.
pub const ALIGN: usize = 64;

/// How the elements of a weight matrix are stored. Names and block geometry are ggml's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum DType {
    /// IEEE single.
    F32,
    /// IEEE half.
    F16,
    /// The upper half of an IEEE single.
    BF16,
    /// 32 signed bytes and one half scale: 8.5 bits a weight.
    Q8_0,
    /// 32 nibbles and one half scale: 4.5 bits a weight.
    Q4_0,
    /// 256 nibbles, 8 six-bit scales and minima, two half super-scales: 4.5 bits a weight.
    Q4K,
    /// 256 six-bit values, 16 signed byte scales, one half super-scale: 6.5625 bits a weight.
    Q6K,
}

impl DType {
    /// Every type, in the order of the discriminants.
    pub const ALL: [DType; 7] = [
        DType::F32,
        DType::F16,
        DType::BF16,
        DType::Q8_0,
        DType::Q4_0,
        DType::Q4K,
        DType::Q6K,
    ];

    /// Weights in one block: what shares a scale.
    pub const fn block_len(self) -> usize {
        match self {
            DType::F32 | DType::F16 | DType::BF16 => 1,
            DType::Q8_0 | DType::Q4_0 => 32,
            DType::Q4K | DType::Q6K => 256,
        }
    }

    /// Bytes of one block.
    pub const fn block_bytes(self) -> usize {
        match self {
            DType::F32 => 4,
            DType::F16 | DType::BF16 => 2,
            DType::Q8_0 => 34,
            DType::Q4_0 => 18,
            DType::Q4K => 144,
            DType::Q6K => 210,
        }
    }

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

    /// The name used in YAML, reports and messages.
    pub const fn name(self) -> &'static str {
        match self {
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::BF16 => "bf16",
            DType::Q8_0 => "q8_0",
            DType::Q4_0 => "q4_0",
            DType::Q4K => "q4_k",
            DType::Q6K => "q6_k",
        }
    }

    /// The type of that name.
    pub fn from_name(name: &str) -> Option<DType> {
        DType::ALL.into_iter().find(|d| d.name() == name)
    }
}

/// Planes of a row of [`ActType::Q8`].
pub const PLANES: usize = 2;

/// Bytes of a plane of `cols` elements: bytes, scales, sums.
pub const fn plane_bytes(cols: usize) -> usize {
    cols + cols / 32 * 8
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
    /// Rows quantised in blocks of 32, in [`PLANES`] planes: the second holds what the first left over. A plane is all
    /// signed bytes, then per block an f32 scale, then per block the i32 sum of its bytes. `x = sum of scale * byte` over
    /// the planes, `scale = max|x| / 127`, bytes rounded half away from zero. Row length a multiple of 32.
    ///
    /// One plane is wrong by half a percent of the activations, and a deep model multiplies that; two are wrong by
    /// 2^-15 of a block's largest, which no gate can see.
    Q8,
}

impl ActType {
    /// Bytes of a row of `cols` elements, rounded up to [`ALIGN`] so that every row starts on a cache line.
    /// One-column rows (token ids) are dense.
    pub const fn row_bytes(self, cols: usize) -> usize {
        let raw = match self {
            ActType::U32 | ActType::F32 => cols * 4,
            ActType::F16 => cols * 2,
            ActType::Q8 => PLANES * plane_bytes(cols),
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
