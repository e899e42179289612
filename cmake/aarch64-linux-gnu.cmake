# Builds for 64-bit ARM on another Linux machine, and runs what was built there emulated, with Debian's packages
# g++-aarch64-linux-gnu and qemu-user. Used by `make cpp-test-arm`.

set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64 -L /usr/aarch64-linux-gnu)
