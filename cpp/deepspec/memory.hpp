#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

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

// Hands back what is kept for later buffers: where a job of another kind follows that must keep to a budget.
void release_kept_memory();

// A vector's memory in large pages where it is large: what is read here and there waits less for addresses.
// Numbers that a resize adds are not initialised.
void* allocate_pages(std::size_t bytes);
void deallocate_pages(void* data, std::size_t bytes) noexcept;

template <class Number>
struct LargePages {
    using value_type = Number;

    LargePages() = default;
    template <class Other>
    LargePages(const LargePages<Other>&) noexcept {}

    Number* allocate(std::size_t n) { return static_cast<Number*>(allocate_pages(n * sizeof(Number))); }
    void deallocate(Number* data, std::size_t n) noexcept { deallocate_pages(data, n * sizeof(Number)); }

    template <class Other>
    void construct(Other* place) noexcept {
        ::new (static_cast<void*>(place)) Other;
    }
    template <class Other, class... Arguments>
    void construct(Other* place, Arguments&&... arguments) {
        ::new (static_cast<void*>(place)) Other(std::forward<Arguments>(arguments)...);
    }
    bool operator==(const LargePages&) const { return true; }
};

template <class Number>
using LargeVector = std::vector<Number, LargePages<Number>>;

}  // namespace deepspec
