// SHA-256 (FIPS 180-4).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace mobilequant {

using Digest = std::array<std::uint8_t, 32>;

// By the instructions of the processor where it has them, or without: the same digest.
enum class ShaCode { fastest, portable };

Digest sha256(std::span<const std::byte> data, ShaCode code = ShaCode::fastest);
std::string hexadecimal(const Digest& digest);

}  // namespace mobilequant
