// fuzz [--seconds S] [--seed N] [--only SUBJECT]
//
// Tries the problems of the seeds N, N + 1, ... for S seconds, at least one; stops at the first that fails
// and names its seed. `fuzz --seed N` tries that one alone.

#include "fuzz.hpp"

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <stdexcept>
#include <string>

#ifdef __linux__
#include <unistd.h>
// Sanitizers call back before they end the program.
extern "C" void __sanitizer_set_death_callback(void (*callback)()) __attribute__((weak));
#endif

namespace {

struct Subject {
    const char* name;
    void (*attempt)(fuzz::Random&);
};

constexpr Subject subjects[] = {
    {"gram", fuzz::try_gram},
    {"factored", fuzz::try_factored},
    {"tiles", fuzz::try_tiles},
    {"neighbors", fuzz::try_neighbors},
    {"color_graphs", fuzz::try_color_graphs},
    {"laplacian", fuzz::try_laplacian},
    {"eigenpairs", fuzz::try_eigenpairs},
    {"pixels", fuzz::try_pixels},
    {"lattice", fuzz::try_lattice},
    {"crf", fuzz::try_crf},
    {"threads", fuzz::try_threads},
    {"cancelling", fuzz::try_cancelling},
    {"beside_each_other", fuzz::try_beside_each_other},
    {"memory", fuzz::try_memory},
};

const Subject& subject_of(std::uint64_t seed) { return subjects[seed % std::size(subjects)]; }

char failed_case[100];  // what to print when the case under way fails, however it ends

void name_failed_case() { std::fputs(failed_case, stderr); }

extern "C" void on_signal(int signal) {
    if (signal != SIGABRT) std::fputs("a problem takes minutes, or crashed\n", stderr);
    name_failed_case();
    std::_Exit(1);
}

void name_failed_case_in_crashes() {
    std::signal(SIGABRT, on_signal);
#ifdef __linux__
    std::signal(SIGALRM, on_signal);
    if (__sanitizer_set_death_callback != nullptr)
        __sanitizer_set_death_callback(name_failed_case);
    else
        std::signal(SIGSEGV, on_signal);
#endif
}

void attempt(std::uint64_t seed) {
    const Subject& subject = subject_of(seed);
    std::snprintf(failed_case, sizeof failed_case, "failed: %s; again with: fuzz --seed %llu\n", subject.name,
                  static_cast<unsigned long long>(seed));
#ifdef __linux__
    alarm(120);
#endif
    try {
        fuzz::Random random(seed);
        subject.attempt(random);
    } catch (const std::exception& error) {
        check::fail(__FILE__, __LINE__) << "unexpected " << error.what() << "\n";
    }
}

struct Arguments {
    double seconds = 0.0;
    std::uint64_t seed = std::random_device()();
    std::string only;

    Arguments(int count, char** values) {
        for (int i = 1; i < count; i += 2) {
            const std::string name = values[i];
            if (i + 1 == count) throw std::invalid_argument(name + " needs a value");
            if (name == "--seconds")
                seconds = std::stod(values[i + 1]);
            else if (name == "--seed")
                seed = std::stoull(values[i + 1]);
            else if (name == "--only")
                only = values[i + 1];
            else
                throw std::invalid_argument("--seconds, --seed or --only expected, got " + name);
        }
        const auto named = [&](const Subject& subject) { return only.empty() || only == subject.name; };
        if (std::none_of(std::begin(subjects), std::end(subjects), named))
            throw std::invalid_argument("--only: no subject " + only);
    }
};

int run(const Arguments& arguments) {
    using Clock = std::chrono::steady_clock;
    const auto end = Clock::now() + std::chrono::duration<double>(arguments.seconds);
    std::printf("seeds from %llu on\n", static_cast<unsigned long long>(arguments.seed));
    std::fflush(stdout);
    name_failed_case_in_crashes();
    std::size_t n_tried = 0;
    std::uint64_t seed = arguments.seed;
    do {
        while (!arguments.only.empty() && arguments.only != subject_of(seed).name) ++seed;
        attempt(seed++);
        ++n_tried;
    } while (check::failures == 0 && Clock::now() < end);
    if (check::failures > 0) name_failed_case();
    std::printf("%zu problems tried\n", n_tried);
    return check::result();
}

}  // namespace

int main(int count, char** values) {
    try {
        return run(Arguments(count, values));
    } catch (const std::exception& error) {
        std::fprintf(stderr, "fuzz: %s\n", error.what());
        return 2;
    }
}
