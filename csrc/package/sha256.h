// SHA-256 (FIPS 180-4), by the instructions of the processor where it has them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace mobilequant {

using Digest = std::array<std::uint8_t, 32>;

Digest sha256(std::span<const std::byte> data);
std::string hexadecimal(const Digest& digest);

}  // namespace mobilequant
