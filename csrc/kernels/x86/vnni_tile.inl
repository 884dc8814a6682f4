// The tile of x86 processors with VNNI: vpdpbusd multiplies 4 unsigned codes by 4 signed weights in each 32-bit lane.
// The file that includes this one says how wide a register is:
//
//   Vector                the register       kLanes         channels in it
//   registers_for(rows)   of weights, beside which the sums of so many rows fit
//   keep(sum)             leaves a sum in its register, where the compiler must be told
//
// A nibble of a weight is used where it stands, as the high half of a byte whose low half is 0: 16 times the weight.
// Sums of one group are 16 times too large until they are shifted; they stay below 255 · 128 · columns < 2^31 for up to
// 65,792 columns.

constexpr int kGroupBytes = kPanelChannels * kColumnGroup;
template <int V>
using Block = Vector[V];  // of weights, or of the sums of one row

static inline Vector broadcast(const std::uint8_t* codes) {
    std::int32_t four;
    __builtin_memcpy(&four, codes, sizeof four);
    return broadcast32(four);
}

template <int V, int R>
static inline void multiply(Block<V> (&sums)[R], const Block<V>& weights, const std::uint8_t* codes,
                            std::ptrdiff_t stride) {
    for (int r = 0; r < R; ++r) {
        const Vector four = broadcast(codes + r * stride);
        for (int v = 0; v < V; ++v) {
            sums[r][v] = dot(sums[r][v], four, weights[v]);
            if constexpr (R > 1) keep(sums[r][v]);
        }
    }
}

template <int V>
static inline void load(Block<V>& weights, const std::byte* from) {
    for (int v = 0; v < V; ++v) weights[v] = load(from + v * sizeof(Vector));
}

// Weights of columns 0 … 3 and 4 … 7 of eight.
struct Weights8 {
    static constexpr int kBytes = 2 * kGroupBytes, kShift = 0;
    template <int V>
    static void load_low(Block<V>& weights, const std::byte* panel) {
        load(weights, panel);
    }
    template <int V>
    static void load_high(Block<V>& weights, const std::byte* panel) {
        load(weights, panel + kGroupBytes);
    }
};

struct Weights4 {
    static constexpr int kBytes = kGroupBytes, kShift = 4;
    template <int V>
    static void load_low(Block<V>& weights, const std::byte* panel) {
        load(weights, panel);
        for (Vector& each : weights) each = high_nibbles(shift_left_4(each));
    }
    template <int V>
    static void load_high(Block<V>& weights, const std::byte* panel) {
        load(weights, panel);
        for (Vector& each : weights) each = high_nibbles(each);
    }
};

// Of a single row two sums run side by side: one would wait for itself.
template <class Weights, int V, int R>
static inline void sum_columns(Block<V> (&sums)[R], const std::byte* panel, const std::uint8_t* codes,
                               std::ptrdiff_t stride, int columns) {
    constexpr bool kSingle = R == 1;
    Block<V> more[R];
    for (int r = 0; r < R; ++r)
        for (int v = 0; v < V; ++v) sums[r][v] = more[r][v] = broadcast32(0);
    for (int k = 0; k < columns; k += kColumnPad, panel += Weights::kBytes) {
        Block<V> weights;
        Weights::load_low(weights, panel);
        multiply(sums, weights, codes + k, stride);
        Weights::load_high(weights, panel);
        multiply(kSingle ? more : sums, weights, codes + k + kColumnGroup, stride);
    }
    for (int r = 0; r < R; ++r) {
        for (int v = 0; v < V; ++v) {
            if constexpr (kSingle) sums[r][v] = add32(sums[r][v], more[r][v]);
            sums[r][v] = shift_right<Weights::kShift>(sums[r][v]);
        }
    }
}

template <class Weights, int R>
static inline void tile_block(const Panel& panel, const Rows& rows, std::int32_t* out, int first) {
    constexpr int V = registers_for(R);
    const int columns = panel.columns / panel.groups;
    const std::ptrdiff_t bytes = std::ptrdiff_t{columns} / kColumnPad * Weights::kBytes;
    const std::byte* weights = panel.weights + first * kColumnGroup;
    for (int g = 0; g < panel.groups; ++g, weights += bytes) {
        Block<V> sums[R];
        sum_columns<Weights, V>(sums, weights, rows.codes + g * columns, rows.stride, columns);
        for (int v = 0; v < V; ++v) {
            const int channel = first + v * kLanes;
            for (int r = 0; r < R; ++r) {
                std::int32_t* place = out + r * kPanelChannels + channel;
                if (!panel.multiplier) {
                    store(place, sums[r][v]);
                    continue;
                }
                const Vector product = multiply32(sums[r][v], widen(panel.multiplier + g * kPanelChannels + channel));
                store(place, g == 0 ? product : add32(load(reinterpret_cast<const std::byte*>(place)), product));
            }
        }
    }
}

template <class Weights, int R>
static void tile_rows(const Panel& panel, const Rows& rows, std::int32_t* out) {
    for (int first = 0; first < kPanelChannels; first += kLanes * registers_for(R))
        tile_block<Weights, R>(panel, rows, out, first);
}
