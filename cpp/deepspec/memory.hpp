#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <stdexcept>
#include <string>

namespace deepspec {

struct InsufficientMemory : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Bytes this process can still take: the system's available memory, or what a container's limit leaves.
std::uint64_t available_memory();

// Whether `bytes` are within available_memory().
bool has_memory(double bytes);

// Throws InsufficientMemory, naming `job`, what it needs and what there is, when `bytes` exceeds
// available_memory().
void require_memory(double bytes, const std::string& job);

struct Block {
    void* data = nullptr;
    std::size_t bytes = 0;
};

// Uninitialised, cache-line aligned numbers. The memory of large ones is kept for later ones: up to 64 MB, on
// Linux up to 512 MB, which the system may take back whenever it is short of memory.
template <class Number>
class Buffer {
  public:
    Buffer() = default;
    explicit Buffer(std::size_t size);
    Buffer(Buffer&& other) noexcept;
    Buffer& operator=(Buffer&& other) noexcept;
    ~Buffer();

    Number* data() { return static_cast<Number*>(block_.data); }
    const Number* data() const { return static_cast<const Number*>(block_.data); }
    std::size_t size() const { return size_; }

  private:
    Block block_;
    std::size_t size_ = 0;
};

}  // namespace deepspec
