#pragma once

#include <cstddef>
#include <functional>
#include <memory>

namespace deepspec {

// Cores this process may run on (its affinity mask where the system has one).
int available_threads();

// $DEEPSPEC_NUM_THREADS where set, else available_threads().
// Throws std::invalid_argument when the variable is not a positive whole number.
int default_threads();

// A few threads for the length of one job. Workers sleep between runs, so that a pool costs nothing
// beside another library's; `poll` is called on the caller's thread every few milliseconds and may
// throw to cancel.
class ThreadPool {
  public:
    explicit ThreadPool(int threads, std::function<void()> poll = {});
    ~ThreadPool();
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    int size() const;

    // Runs task(0) … task(n_tasks - 1), each once, in any order and on any thread; the caller's thread
    // takes its share. The first exception stops what has not begun and is rethrown here.
    void run(std::size_t n_tasks, const std::function<void(std::size_t)>& task);

    // Splits [0, n) into blocks of `grain` (the last may be shorter): body(begin, end). The blocks do not
    // depend on the number of threads.
    void for_blocks(std::size_t n, std::size_t grain,
                    const std::function<void(std::size_t, std::size_t)>& body);

  private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace deepspec
