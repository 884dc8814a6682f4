// Packages that were spoiled on purpose: most of a mutant is still right, so that it gets far into the reader.
#pragma once

#include <cstdint>

#include "fuzz/target.h"

namespace mobilequant::fuzz {

// One to four changes, which `seed` alone decides: numbers become extreme or those of another place, names are
// exchanged, shapes are changed in both files at once, parts vanish or stand twice, weights become extreme, bytes are
// flipped or cut.
Files mutate(const Files& files, std::uint64_t seed);

}  // namespace mobilequant::fuzz
