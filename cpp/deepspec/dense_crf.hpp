#pragma once

#include <cstddef>
#include <cstdint>

#include "deepspec/parallel.hpp"

namespace deepspec {

// (height, width, 3), row after row.
struct RgbView {
    const std::uint8_t* data;
    std::size_t height, width;
    std::size_t size() const { return height * width; }
};

// The two Gaussian kernels between pixels, of position and colour and of position alone: weights, and
// standard deviations in pixels and in steps of 8-bit colour.
struct CrfOptions {
    double bilateral_weight = 10.0, bilateral_xy = 80.0, bilateral_rgb = 13.0;
    double gaussian_weight = 3.0, gaussian_xy = 3.0;
    std::size_t n_iterations = 5;
};

// Mean-field inference in a fully connected CRF with Potts compatibility (Krähenbühl and Koltun, NIPS 2011):
// what the labels of all pixels are, (n_labels, height, width), given their negative log-probabilities of
// the same shape: finite, or infinite for labels a pixel cannot have. The same bits for any number of
// threads. Throws std::invalid_argument for standard deviations too small for the lattice.
void dense_crf(const RgbView& image, const float* unary, std::size_t n_labels, const CrfOptions& options,
               float* posterior, ThreadPool& pool);

// Bytes that dense_crf takes besides, with a vertex of each lattice for every two pixels: more than
// photographs have, fewer than noise.
double dense_crf_bytes(std::size_t n_pixels, std::size_t n_labels);

}  // namespace deepspec
