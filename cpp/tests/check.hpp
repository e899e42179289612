#pragma once

#include <cmath>
#include <iostream>
#include <string>

// The few assertions the tests need. A failed one prints where, what and the values (the first ten do), and
// the test goes on; main returns check::result().
namespace check {

inline int failures = 0;

inline std::ostream& fail(const char* file, int line) {
    static std::ostream silent(nullptr);
    if (++failures > 10) return silent;
    return std::cerr.precision(17), std::cerr << file << ':' << line << ": ";
}

inline int result() {
    if (failures > 0) std::cerr << failures << " checks failed\n";
    return failures > 0;
}

}  // namespace check

#define CHECK(condition)                                                                   \
    do {                                                                                   \
        if (!(condition)) check::fail(__FILE__, __LINE__) << "not true: " #condition "\n"; \
    } while (false)

#define CHECK_EQUAL(actual, expected)                                                         \
    do {                                                                                      \
        const auto check_actual = (actual);                                                   \
        const auto check_expected = (expected);                                               \
        if (!(check_actual == check_expected))                                                \
            check::fail(__FILE__, __LINE__)                                                   \
                << #actual " is " << check_actual << ", expected " << check_expected << "\n"; \
    } while (false)

#define CHECK_NEAR(actual, expected, tolerance)                                                            \
    do {                                                                                                   \
        const double check_actual = (actual);                                                              \
        const double check_expected = (expected);                                                          \
        const double check_tolerance = (tolerance);                                                        \
        if (!(std::abs(check_actual - check_expected) <= check_tolerance))                                 \
            check::fail(__FILE__, __LINE__) << #actual " is " << check_actual << ", expected "             \
                                            << check_expected << " to within " << check_tolerance << "\n"; \
    } while (false)

// The expression throws an Exception whose message holds `part`.
#define CHECK_THROWS(Exception, part, ...)                                                  \
    do {                                                                                    \
        try {                                                                               \
            static_cast<void>(__VA_ARGS__);                                                 \
            check::fail(__FILE__, __LINE__) << "no " #Exception " from " #__VA_ARGS__ "\n"; \
        } catch (const Exception& error) {                                                  \
            if (std::string(error.what()).find(part) == std::string::npos)                  \
                check::fail(__FILE__, __LINE__)                                             \
                    << "\"" << error.what() << "\" does not say \"" << part << "\"\n";      \
        }                                                                                   \
    } while (false)
