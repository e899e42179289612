#include "deepspec/memory.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <limits>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#if defined(_WIN32)
#define NOMINMAX
#include <windows.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#elif defined(__linux__)
#include <sys/mman.h>
#endif

namespace deepspec {
namespace {

constexpr std::uint64_t unlimited = std::numeric_limits<std::uint64_t>::max();

#ifdef __linux__
std::uint64_t read_number(const char* path) {
    std::ifstream file(path);
    std::uint64_t value = 0;
    return file >> value ? value : unlimited;  // "max" and a missing file both mean no limit
}

// The number that follows `name` in a file of names and numbers.
std::uint64_t read_field(const char* path, const std::string& name) {
    std::ifstream file(path);
    std::string found;
    std::uint64_t value = 0;
    while (file >> found >> value) {
        if (found == name) return value;
        file.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
    }
    return unlimited;
}

std::uint64_t system_memory() {
    const std::uint64_t kilobytes = read_field("/proc/meminfo", "MemAvailable:");
    return kilobytes == unlimited ? unlimited : kilobytes * 1024;
}

// What the limit of a control group leaves. Its files in the page cache count as used, but are given back.
std::uint64_t group_memory(const char* limit_path, const char* used_path, const char* statistics_path,
                           const char* cache_name) {
    const std::uint64_t limit = read_number(limit_path), used = read_number(used_path);
    if (limit == unlimited || used == unlimited) return unlimited;
    const std::uint64_t cache = read_field(statistics_path, cache_name);
    const std::uint64_t kept = cache == unlimited ? used : used - std::min(used, cache);
    return limit - std::min(limit, kept);
}

std::uint64_t container_memory() {
    return std::min(group_memory("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current",
                                 "/sys/fs/cgroup/memory.stat", "inactive_file"),
                    group_memory("/sys/fs/cgroup/memory/memory.limit_in_bytes",
                                 "/sys/fs/cgroup/memory/memory.usage_in_bytes",
                                 "/sys/fs/cgroup/memory/memory.stat", "total_inactive_file"));
}
#endif

std::string gigabytes(double bytes) {
    char text[32];
    std::snprintf(text, sizeof text, "%.2f GB", bytes * 1e-9);
    return text;
}

constexpr std::align_val_t alignment{64};

#ifdef __linux__
constexpr std::size_t large_page = std::size_t{1} << 21;

std::size_t whole_pages(std::size_t bytes) { return (bytes + large_page - 1) / large_page * large_page; }

// Large pages: a matrix of 100 MB costs 25 000 page faults otherwise, and its products as many misses of the
// address cache. Memory from the heap may lie in small pages already, so this comes straight from the system.
void* allocate(std::size_t bytes) {
    if (bytes < large_page) return ::operator new(bytes, alignment);
    const std::size_t size = whole_pages(bytes);
    void* const mapped =
        mmap(nullptr, size + large_page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) throw std::bad_alloc();
    char* const begin = static_cast<char*>(mapped);
    const std::size_t before =
        (large_page - reinterpret_cast<std::uintptr_t>(begin) % large_page) % large_page;
    if (before > 0) munmap(begin, before);
    munmap(begin + before + size, large_page - before);
    madvise(begin + before, size, MADV_HUGEPAGE);
    return begin + before;
}

void deallocate(void* data, std::size_t bytes) {
    if (bytes < large_page)
        ::operator delete(data, alignment);
    else
        munmap(data, whole_pages(bytes));
}

// The system may take the pages where it is short of memory, and need not before.
void offer(void* data, std::size_t bytes) {
    if (bytes >= large_page) madvise(data, whole_pages(bytes), MADV_FREE);
}

constexpr std::size_t most_kept = std::size_t{1} << 29;
#else
void* allocate(std::size_t bytes) { return ::operator new(bytes, alignment); }
void deallocate(void* data, std::size_t) { ::operator delete(data, alignment); }
void offer(void*, std::size_t) {}

constexpr std::size_t most_kept = std::size_t{1} << 26;
#endif

// Memory of buffers that are gone, for the next ones: the system clears what it hands out, which takes longer
// than to fill it. Job follows job of about the same sizes.
class Recycler {
  public:
    static Recycler& instance() {
        static Recycler* const only = new Recycler;  // never destroyed: buffers may outlive static objects
        return *only;
    }

    Block take(std::size_t bytes) {
        if (bytes >= least) {
            const std::lock_guard lock(mutex_);
            const auto fits = [&](const Block& block) {
                return block.bytes >= bytes && block.bytes / 2 <= bytes;
            };
            const auto found = std::find_if(blocks_.rbegin(), blocks_.rend(), fits);
            if (found != blocks_.rend()) {
                const Block block = *found;
                blocks_.erase(std::next(found).base());
                kept_ -= block.bytes;
                return block;
            }
        }
        return {allocate(bytes), bytes};
    }

    void give(Block block) {
        std::vector<Block> dropped;
        const bool keep = block.bytes >= least && block.bytes <= most_kept;
        if (keep) offer(block.data, block.bytes);
        {
            const std::lock_guard lock(mutex_);
            if (keep) {
                blocks_.push_back(block);
                kept_ += block.bytes;
            } else {
                dropped.push_back(block);
            }
            while (kept_ > most_kept) {  // the oldest first
                kept_ -= blocks_.front().bytes;
                dropped.push_back(blocks_.front());
                blocks_.erase(blocks_.begin());
            }
        }
        release(dropped);
    }

    void clear() {
        std::vector<Block> dropped;
        {
            const std::lock_guard lock(mutex_);
            dropped.swap(blocks_);
            kept_ = 0;
        }
        release(dropped);
    }

  private:
    static void release(const std::vector<Block>& blocks) {
        for (const Block& block : blocks) deallocate(block.data, block.bytes);
    }

    static constexpr std::size_t least = std::size_t{1} << 16;  // smaller ones the heap keeps by itself

    std::mutex mutex_;
    std::vector<Block> blocks_;
    std::size_t kept_ = 0;
};

}  // namespace

void release_kept_memory() { Recycler::instance().clear(); }

std::uint64_t available_memory() {
#if defined(__linux__)
    return std::min(system_memory(), container_memory());
#elif defined(_WIN32)
    MEMORYSTATUSEX status;
    status.dwLength = sizeof status;
    return GlobalMemoryStatusEx(&status) ? status.ullAvailPhys : unlimited;
#elif defined(__APPLE__)
    // macOS compresses and reclaims on demand; the installed memory is the honest upper bound.
    std::uint64_t total = 0;
    std::size_t size = sizeof total;
    return sysctlbyname("hw.memsize", &total, &size, nullptr, 0) == 0 ? total : unlimited;
#else
    return unlimited;
#endif
}

bool has_memory(double bytes) {
    // Asking the system takes as long as a small job itself, and so little there always is.
    constexpr double trifle = 32e6;
    return bytes <= trifle || bytes <= static_cast<double>(available_memory());
}

void require_memory(double bytes, const std::string& job) {
    if (has_memory(bytes)) return;
    throw InsufficientMemory(job + " needs " + gigabytes(bytes) + " of memory, " +
                             gigabytes(static_cast<double>(available_memory())) + " is available");
}

void* allocate_pages(std::size_t bytes) { return allocate(bytes); }

void deallocate_pages(void* data, std::size_t bytes) noexcept { deallocate(data, bytes); }

template <class Number>
Buffer<Number>::Buffer(std::size_t size)
    : block_(size > 0 ? Recycler::instance().take(size * sizeof(Number)) : Block()), size_(size) {}

template <class Number>
Buffer<Number>::Buffer(Buffer&& other) noexcept
    : block_(std::exchange(other.block_, Block())), size_(std::exchange(other.size_, 0)) {}

template <class Number>
Buffer<Number>& Buffer<Number>::operator=(Buffer&& other) noexcept {
    std::swap(block_, other.block_);
    std::swap(size_, other.size_);
    return *this;
}

template <class Number>
Buffer<Number>::~Buffer() {
    if (block_.data != nullptr) Recycler::instance().give(block_);
}

template class Buffer<std::byte>;
template class Buffer<double>;
template class Buffer<float>;
template class Buffer<std::int8_t>;
template class Buffer<std::uint8_t>;
template class Buffer<std::uint16_t>;
template class Buffer<std::int16_t>;
template class Buffer<std::uint32_t>;

}  // namespace deepspec
