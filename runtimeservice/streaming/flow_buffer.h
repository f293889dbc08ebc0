// A buffer for bytes that pass through: small at first, larger while more comes than it holds, and
// not there at all while nothing comes. So many quiet or slow flows cost little.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <span>
#include <utility>

namespace streaming {

// For the loop's thread.
class FlowBuffer {
 public:
  static constexpr size_t kLeast = 16 << 10;
  static constexpr size_t kMost = 256 << 10;
  // Of all together; beyond, each gets the least. A client may have hundreds of connections
  // forwarded and take nothing of any.
  static constexpr size_t kMostOfAll = 32 << 20;

  FlowBuffer() = default;
  FlowBuffer(const FlowBuffer&) = delete;
  FlowBuffer& operator=(const FlowBuffer&) = delete;
  ~FlowBuffer() { Drop(); }

  // What it held before is gone.
  std::span<char> Get() {
    const size_t size = of_all_ - size_ + wanted_ <= kMostOfAll ? wanted_ : kLeast;
    if (size_ < size) {
      Drop();  // The old one first: never both.
      bytes_ = std::make_unique_for_overwrite<char[]>(size);
      size_ = size;
      of_all_ += size;
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
    Drop();
    wanted_ = kLeast;
  }

 private:
  void Drop() {
    bytes_ = nullptr;
    of_all_ -= std::exchange(size_, 0);
  }

  static inline size_t of_all_ = 0;
  std::unique_ptr<char[]> bytes_;
  size_t size_ = 0;
  size_t wanted_ = kLeast;
};

}  // namespace streaming
