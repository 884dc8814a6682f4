// All that depends on the processor, behind one table of functions for each kind of processor.
#pragma once

#include <span>
#include <string_view>

#include "kernels/operation.h"
#include "kernels/tile.h"

namespace mobilequant {

// Functions on rows; index 0 is uint8, 1 is int16: of the inputs in their order, then of the output.
struct Elementwise {
    void (*norm[2][2])(const void* x, void* y, const NormKernel& op);                         // one group
    void (*rope[2][2])(const void* x, void* y, std::int64_t position, const RopeKernel& op);  // one head
    void (*table[2][2])(const void* x, void* y, std::int64_t count, const void* table);
    void (*multiply[2][2][2])(const void* a, const void* b, void* y, std::int64_t count, const MultiplyKernel& op);
    void (*add[2][2][2])(const void* a, const void* b, void* y, std::int64_t count, const AddKernel& op);
    void (*finish[2])(const SumRows& sums, void* y, std::ptrdiff_t stride,
                      const ChannelFactors& op);  // stride in bytes
    void (*softmax[2][2])(const void* x, void* p, std::int32_t* e, std::int64_t count, const SoftmaxKernel& op);
};

struct Kernels {
    std::string_view name;
    bool (*supported)();  // whether this machine can run them
    int max_rows;         // of one tile
    TileKernel tile8, tile4;
    const Elementwise* rows;
};

// Every kind that was compiled, fastest first; scalar is the last.
std::span<const Kernels> all_kernels();

// The fastest that this machine can run, or the one of that name.
// Throws UsageError: no such name, or this machine cannot run it.
const Kernels& choose_kernels(std::string_view name = "");

}  // namespace mobilequant
