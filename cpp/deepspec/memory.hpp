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

// Uninitialised, cache-line aligned floats.
class FloatBuffer {
  public:
    FloatBuffer() = default;
    explicit FloatBuffer(std::size_t size);
    FloatBuffer(FloatBuffer&& other) noexcept;
    FloatBuffer& operator=(FloatBuffer&& other) noexcept;
    ~FloatBuffer();

    float* data() { return data_; }
    const float* data() const { return data_; }
    std::size_t size() const { return size_; }

  private:
    float* data_ = nullptr;
    std::size_t size_ = 0;
};

}  // namespace deepspec
