#include "deepspec/memory.hpp"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <limits>
#include <string>
#include <utility>

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

}  // namespace

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

void require_memory(double bytes, const std::string& job) {
    // Asking the system takes as long as a small job itself, and so little there always is.
    constexpr double trifle = 32e6;
    if (bytes <= trifle) return;
    const std::uint64_t available = available_memory();
    if (bytes <= static_cast<double>(available)) return;
    throw InsufficientMemory(job + " needs " + gigabytes(bytes) + " of memory, " +
                             gigabytes(static_cast<double>(available)) + " is available");
}

template <class Number>
Buffer<Number>::Buffer(std::size_t size)
    : data_(static_cast<Number*>(::operator new(size * sizeof(Number), alignment))), size_(size) {
#ifdef __linux__
    // Large pages: the first touch of a matrix of 100 MB costs 25 000 page faults otherwise.
    constexpr std::uintptr_t page = 4096;
    const auto begin = (reinterpret_cast<std::uintptr_t>(data_) + page - 1) / page * page;
    const auto end = reinterpret_cast<std::uintptr_t>(data_ + size) / page * page;
    if (end > begin + (1u << 21)) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#endif
}

template <class Number>
Buffer<Number>::Buffer(Buffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

template <class Number>
Buffer<Number>& Buffer<Number>::operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
}

template <class Number>
Buffer<Number>::~Buffer() {
    ::operator delete(data_, alignment);
}

template class Buffer<double>;
template class Buffer<float>;
template class Buffer<std::uint16_t>;

}  // namespace deepspec
