#include "deepspec/parallel.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#ifdef __linux__
#include <sched.h>
#endif

namespace deepspec {

int available_threads() {
#ifdef __linux__
    cpu_set_t cpus;
    if (sched_getaffinity(0, sizeof cpus, &cpus) == 0) return std::max(1, CPU_COUNT(&cpus));
#endif
    return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

int default_threads() {
    const char* text = std::getenv("DEEPSPEC_NUM_THREADS");
    if (text == nullptr || *text == '\0') return available_threads();
    char* end = nullptr;
    const long value = std::strtol(text, &end, 10);
    if (*end != '\0' || value < 1 || value > 4096)
        throw std::invalid_argument("DEEPSPEC_NUM_THREADS must be a whole number from 1 to 4096, got \"" +
                                    std::string(text) + "\"");
    return static_cast<int>(value);
}

struct ThreadPool::State {
    using Clock = std::chrono::steady_clock;
    static constexpr auto poll_interval = std::chrono::milliseconds(20);
    // Waking a sleeping thread takes longer than a small task: who waits stays awake this long, and yields.
    static constexpr auto patience = std::chrono::microseconds(100);

    std::vector<std::thread> workers;
    std::function<void()> poll;
    Clock::time_point last_poll = Clock::now();

    std::mutex mutex;
    std::condition_variable work_ready;
    std::condition_variable work_done;
    std::atomic<unsigned long> generation{0};
    std::atomic<std::size_t> busy{0};
    std::atomic<bool> stopping{false};

    const std::function<void(std::size_t)>* task = nullptr;
    std::size_t n_tasks = 0;
    std::atomic<std::size_t> next{0};
    std::exception_ptr error;

    void fail(std::exception_ptr thrown) {
        const std::lock_guard lock(mutex);
        if (!error) error = std::move(thrown);
        next.store(n_tasks);
    }

    void poll_if_due() {
        if (!poll) return;
        const auto now = Clock::now();
        if (now - last_poll < poll_interval) return;
        last_poll = now;
        poll();
    }

    void take_tasks(bool is_caller) {
        try {
            for (;;) {
                if (is_caller) poll_if_due();
                const std::size_t index = next.fetch_add(1);
                if (index >= n_tasks) return;
                (*task)(index);
            }
        } catch (...) {
            fail(std::current_exception());
        }
    }

    // Returns with the mutex held and the condition true.
    template <class Condition>
    std::unique_lock<std::mutex> wait(std::condition_variable& change, Condition condition) {
        const auto until = Clock::now() + patience;
        while (!condition() && Clock::now() < until) std::this_thread::yield();
        std::unique_lock lock(mutex);
        change.wait(lock, condition);
        return lock;
    }

    void work() {
        unsigned long seen = 0;
        for (;;) {
            {
                const auto lock = wait(work_ready, [&] { return stopping || generation != seen; });
                if (stopping) return;
                seen = generation;
            }
            take_tasks(false);
            const std::lock_guard lock(mutex);
            if (--busy == 0) work_done.notify_one();
        }
    }

    void stop() {
        {
            const std::lock_guard lock(mutex);
            stopping = true;
        }
        work_ready.notify_all();
        for (std::thread& worker : workers) worker.join();
    }
};

ThreadPool::ThreadPool(int threads, std::function<void()> poll) : state_(std::make_unique<State>()) {
    if (threads < 1)
        throw std::invalid_argument("threads must be at least 1, got " + std::to_string(threads));
    state_->poll = std::move(poll);
    state_->workers.reserve(static_cast<std::size_t>(threads - 1));
    try {
        for (int i = 1; i < threads; ++i)
            state_->workers.emplace_back([state = state_.get()] { state->work(); });
    } catch (...) {
        state_->stop();
        throw;
    }
}

ThreadPool::~ThreadPool() { state_->stop(); }

int ThreadPool::size() const { return static_cast<int>(state_->workers.size()) + 1; }

void ThreadPool::run(std::size_t n_tasks, const std::function<void(std::size_t)>& task) {
    if (n_tasks == 0) return;
    State& state = *state_;
    const bool alone = n_tasks == 1 || state.workers.empty();
    {
        const std::lock_guard lock(state.mutex);
        state.task = &task;
        state.n_tasks = n_tasks;
        state.next.store(0);
        state.error = nullptr;
        if (!alone) {
            state.busy = state.workers.size();
            ++state.generation;
        }
    }
    if (!alone) state.work_ready.notify_all();
    state.take_tasks(true);
    const auto lock = state.wait(state.work_done, [&] { return state.busy == 0; });
    if (state.error) std::rethrow_exception(state.error);
}

void ThreadPool::for_blocks(std::size_t n, std::size_t grain,
                            const std::function<void(std::size_t, std::size_t)>& body) {
    run((n + grain - 1) / grain,
        [&](std::size_t block) { body(block * grain, std::min(n, (block + 1) * grain)); });
}

}  // namespace deepspec
