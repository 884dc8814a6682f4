#include "kernels/kernels.h"

#include <array>
#include <string>

#include "package/error.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace mobilequant {
namespace {

bool always() { return true; }

#if defined(__x86_64__)
bool has_avx2() {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
}

bool has_avx_vnni() {
    unsigned a = 0, b = 0, c = 0, d = 0;
    return has_avx2() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
}

bool has_avx512_vnni() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni");
}
#elif defined(__aarch64__)
bool has_dotprod() { return getauxval(AT_HWCAP) & HWCAP_ASIMDDP; }
bool has_i8mm() { return has_dotprod() && (getauxval(AT_HWCAP2) & HWCAP2_I8MM); }
#endif

}  // namespace

#define MQ_DECLARE_KERNELS(isa)                           \
    namespace isa {                                       \
    void tile8(const Panel&, const Rows&, std::int32_t*); \
    void tile4(const Panel&, const Rows&, std::int32_t*); \
    extern const Elementwise kElementwise;                \
    }

MQ_DECLARE_KERNELS(scalar)
#if defined(__x86_64__)
MQ_DECLARE_KERNELS(avx2)
MQ_DECLARE_KERNELS(avxvnni)
MQ_DECLARE_KERNELS(avx512)
#elif defined(__aarch64__)
MQ_DECLARE_KERNELS(arm_dot)
MQ_DECLARE_KERNELS(arm_i8mm)
MQ_DECLARE_KERNELS(neon)
#endif

std::span<const Kernels> all_kernels() {
    static const std::array kAll = {
#if defined(__x86_64__)
        Kernels{"avx512-vnni", has_avx512_vnni, 8, {avx512::tile8, 0}, {avx512::tile4, 0}, &avx512::kElementwise},
        Kernels{"avx-vnni", has_avx_vnni, 6, {avxvnni::tile8, 0}, {avxvnni::tile4, 0}, &avx2::kElementwise},
        Kernels{"avx2", has_avx2, 6, {avx2::tile8, 0}, {avx2::tile4, 0}, &avx2::kElementwise},
#elif defined(__aarch64__)
        Kernels{"i8mm", has_i8mm, 6, {arm_i8mm::tile8, 0}, {arm_i8mm::tile4, 0}, &neon::kElementwise},
        Kernels{"dotprod", has_dotprod, 4, {arm_dot::tile8, 128}, {arm_dot::tile4, 128}, &neon::kElementwise},
#endif
        Kernels{"scalar", always, 12, {scalar::tile8, 0}, {scalar::tile4, 0}, &scalar::kElementwise},
    };
    return kAll;
}

const Kernels& choose_kernels(std::string_view name) {
    for (const Kernels& each : all_kernels()) {
        if (name.empty() ? each.supported() : each.name == name) {
            if (!each.supported()) throw UsageError("this machine cannot run the kernels " + std::string(name));
            return each;
        }
    }
    throw UsageError("there are no kernels called " + std::string(name));
}

}  // namespace mobilequant
