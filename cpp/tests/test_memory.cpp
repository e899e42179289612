#include <cstdint>
#include <utility>

#include "check.hpp"
#include "deepspec/memory.hpp"

using namespace deepspec;

int main() {
    const std::uint64_t available = available_memory();
    CHECK(available > 1'000'000);
    CHECK(available < 1'000'000'000'000'000);

    require_memory(0.0, "nothing");
    require_memory(1e5, "a little");
    CHECK_THROWS(InsufficientMemory, "the matrix needs 1000000000.00 GB of memory, ",
                 require_memory(1e18, "the matrix"));

    Buffer<float> small(3), large(3'000'000);
    CHECK_EQUAL(large.size(), 3'000'000u);
    for (const Buffer<float>* buffer : {&small, &large})
        CHECK_EQUAL(reinterpret_cast<std::uintptr_t>(buffer->data()) % 64, 0u);
    large.data()[0] = 1.0f;
    large.data()[large.size() - 1] = 2.0f;

    Buffer<float> moved(std::move(large));
    CHECK_EQUAL(moved.size(), 3'000'000u);
    CHECK_EQUAL(moved.data()[moved.size() - 1], 2.0f);
    small = std::move(moved);
    CHECK_EQUAL(small.size(), 3'000'000u);
    CHECK_EQUAL(small.data()[0], 1.0f);

    // What is given back is handed out again, to one at a time.
    const void* before = nullptr;
    {
        const Buffer<double> first(1'000'000);
        before = first.data();
    }
    const Buffer<float> again(1'500'000), another(1'500'000);
    CHECK(again.data() == before || another.data() == before);
    CHECK(again.data() != another.data());

#ifdef __linux__
    // What is released goes to the system, which hands out zeros; what is in use stays.
    {
        Buffer<double> written(3'000'000);
        written.data()[0] = 42.0;
    }
    release_kept_memory();
    CHECK_EQUAL(Buffer<double>(3'000'000).data()[0], 0.0);
    CHECK_EQUAL(small.data()[0], 1.0f);
#endif

    const Buffer<float> none;
    CHECK_EQUAL(none.size(), 0u);
    return check::result();
}
