// A buffer for bytes that pass through: small at first, larger while more comes than it holds, and
// not there at all while nothing comes. So many quiet or slow flows cost little.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <span>

namespace streaming {

class FlowBuffer {
 public:
  static constexpr size_t kLeast = 16 << 10;
  static constexpr size_t kMost = 256 << 10;

  // What it held before is gone.
  std::span<char> Get() {
    if (bytes_ == nullptr || size_ < wanted_) {
      bytes_ = nullptr;  // The old one first: never both.
      size_ = wanted_;
      bytes_ = std::make_unique_for_overwrite<char[]>(size_);
    }
    return {bytes_.get(), size_};
  }
  // `length` bytes came.
  void Filled(size_t length) {
    if (length == size_) {
      wanted_ = std::min(kMost, 4 * size_);
    }
  }
  // Nothing comes at present.
  void Release() {
    bytes_ = nullptr;
    wanted_ = kLeast;
  }

 private:
  std::unique_ptr<char[]> bytes_;
  size_t size_ = 0;
  size_t wanted_ = kLeast;
};

}  // namespace streaming
