# Cross-compilation for 64-bit Arm with Linux by the packages g++-aarch64-linux-gnu and qemu-user of Debian.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
# All extensions but SME, whose emulation is slow to start.
find_program(MOBILEQUANT_QEMU NAMES qemu-aarch64 qemu-aarch64-static)
if(MOBILEQUANT_QEMU)
  set(CMAKE_CROSSCOMPILING_EMULATOR "${MOBILEQUANT_QEMU};-cpu;max,sme=off")
endif()
