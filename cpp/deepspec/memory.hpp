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

// Throws InsufficientMemory, naming `job`, what it needs and what there is, when `bytes` exceeds
// available_memory().
void require_memory(double bytes, const std::string& job);

// Uninitialised, cache-line aligned numbers.
template <class Number>
class Buffer {
  public:
    Buffer() = default;
    explicit Buffer(std::size_t size);
    Buffer(Buffer&& other) noexcept;
    Buffer& operator=(Buffer&& other) noexcept;
    ~Buffer();

    Number* data() { return data_; }
    const Number* data() const { return data_; }
    std::size_t size() const { return size_; }

  private:
    Number* data_ = nullptr;
    std::size_t size_ = 0;
};

}  // namespace deepspec
